# What the five train_*.sh share: the model zoo's flags, turned into those of `python -m train.classification`.
#
#   --data_path=DIR      the data set's folder: train/<class>/* and val/ (needed)
#   --batch_size=N       images at once in each process
#   --cfg=NAME           a name in configs/, or a YAML (hrnet_w18)
#   any other flag       as `python -m train.classification --help` says: --device_id= --lr= --train_epochs= --workers=
#                        --nproc= --addr= --dn= --stop_step= --output= --weights= …
#
# PYTHON in the environment names the interpreter; else the .venv of `make setup`, or python3. For an NPU source CANN's
# set_env.sh before.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

train() {
    local data_path="" flags=(--cfg=hrnet_w18) flag
    for flag in "$@"; do
        case $flag in
            --data_path=*) data_path=${flag#*=} ;;
            --batch_size=*) flags+=("--bs=${flag#*=}") ;;
            *) flags+=("$flag") ;;
        esac
    done
    if [[ -z $data_path ]]; then
        echo '[Error] para "data_path" must be confing'
        exit 1
    fi
    local python=$root/.venv/bin/python
    [[ -x $python ]] || python=python3
    python=${PYTHON:-$python}
    PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m train.classification "$data_path" "${flags[@]}"
}
