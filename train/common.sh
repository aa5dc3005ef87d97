# Shared by the five train_*.sh: the model zoo's flags for `python -m train.classification`.
#
#   --data_path=DIR      the data set's directory: train/<class>/* and val/ (required)
#   --batch_size=N       batch size of each process
#   --cfg=NAME           a name in configs/, or a YAML file (default: hrnet_w18)
#   any other flag       see `python -m train.classification --help`: --device_id= --lr= --train_epochs= --workers=
#                        --nproc= --addr= --dn= --stop_step= --output= --weights= …
#
# The environment variable PYTHON sets the interpreter; the default is the .venv of `make setup`, or python3. On an NPU,
# source CANN's set_env.sh first.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

train() {
    if [[ " $*" != *" --data_path="[!\ ]* ]]; then
        echo '[Error] para "data_path" must be confing'  # the model zoo's text
        exit 1
    fi
    local python=$root/.venv/bin/python
    [[ -x $python ]] || python=python3
    PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "${PYTHON:-$python}" -m train.classification --cfg=hrnet_w18 "$@"
}
