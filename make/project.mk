# Targets around the pipeline: speed tables, bundles, help, environment, demo, tests.
SIZES = $(subst $(comma), ,$(BATCHES))
bench:        $(B)/bench/$(BENCH).json    ## measure throughput and latency for BATCHES or all gears
$(B)/bench/$(BENCH).json: $(SIZES:%=$(B)/om/bs%-$(INPUT)-$(TARGET)$(EXT)) $(call code,infer) $(call set,LOOP DEVICE AIS_PYTHON) $(BENCH_CHANGED)
	$(PYTHON) -m infer.bench --models $(filter $(B)/om/%,$^) --output $@ --loop $(LOOP) --device $(DEVICE) --backend $(BACKEND) \
	    --soc_version $(SOC) --ais_python $(AIS_PYTHON)

qps:          $(B)/eval/$(NAME)/$(QPS).json ## write a table of accuracy and throughput for BATCHES
$(B)/eval/$(NAME)/$(QPS).json: $(SIZES:%=$(OUT)/$(BACKEND)-bs%-$(TARGET)_run.json) $(call code,postprocess) \
        $(SIZES:%=$(B)/eval/$(NAME)/$(BACKEND)-bs%-$(TARGET).json) $(QPS_CHANGED)
	$(PYTHON) -m postprocess.qps_table --metrics $(filter $(B)/eval/%,$^) --output $@ $(CHIP:%=--chip %)

WORK = $(B)/predict_work
# Inputs of DATASET with any INPUT and LIMIT, for the names of classes
LABELLED = --labelled $(or $(PREP),$(wildcard $(foreach dtype,float32 uint8,$(addprefix $(B)/prep/$(notdir $(DATASET:%/=%))-$(dtype),/ -first*/))))
predict:      $(MODEL_FILE) $(OM:%=%.json) ## print the classes or people of IMAGES; no labels are needed
	$(call preprocess,$(WORK)/prep,--images $(foreach image,$(IMAGES),'$(image)'))
	$(call infer,$<,$(WORK)/prep,$(WORK)/out,run,$(firstword $(subst $(comma), ,$(DEVICE))))
	$(PYTHON) -m postprocess.predict --cfg $(CFG) --manifest $(WORK)/prep/manifest.json --run $(WORK)/out/run_run.json \
	    $(LABELLED) \
	    $(if $(FLIPS),--run_flip $(WORK)/out-flip/run_run.json) --output $(B)/predict
	@rm -rf $(WORK)

HOST         ?= 127.0.0.1#          serve: address to listen on; not remembered
PORT         ?= 8000#               serve: port of the first device; not remembered
SERVED = $(or $(OM),$(sort $(MODEL_FILE) $(SIZES:%=$(B)/om/bs%-$(INPUT)-$(TARGET)$(EXT))))
known-verdict:                    # runs before the models are compiled; if it fails, make still remembers the values of this call
	$(if $(ALLOW_UNJUDGED),,@env -u SETTINGS_BEFORE $(PYTHON) -m serve.verdict --metrics $(METRICS) --backend $(BACKEND) $(if $(POSE),--flip $(FLIP)))
.PHONY: known-verdict
serve:        known-verdict $(SERVED) $(OM:%=%.json)    ## serve the model over HTTP after it passed its gate
	exec $(if $(filter ascend,$(BACKEND)),$(AIS_PYTHON),$(PYTHON)) -m serve.run --cfg $(CFG) --models $(SERVED) --metrics $(METRICS) \
	    $(LABELLED) $(ALLOW_UNJUDGED) $(if $(FLIPS),--flip) --backend $(BACKEND) --device $(DEVICE) --host $(HOST) --port $(PORT)

gears:                            ## choose a few input sizes for a pose DATASET
	$(PYTHON) -m data.gears --cfg $(CFG) --dataset $(DATASET) --output $(B)/gears.yaml

quantize:     $(QUANTIZED)                ## quantize to int8 with amct_onnx or its emulator
$(B)/int8/inputs/manifest.json: $(CFG) $(CALIB_CHANGED) $(call code,preprocess) $(call set,DATASET CALIB)
	$(PYTHON) -m preprocess.$(TASK) --cfg $(CFG) --dataset $(DATASET) --output $(@D) --calibration $(CALIB) --max_rejected $(MAX_REJECTED)
$(B)/int8/%_deploy_model.onnx: $(ONNX_FILES) $(B)/int8/inputs/manifest.json $(KEEP_INT8) $(call code,amct) $(call set,ONNX)
	$(PYTHON) -m amct.quantize --model $< --inputs $(B)/int8/inputs --output $@ --backend $(BACKEND) $(KEEP_INT8:%=--keep_float %) $(METHOD:%=--method %)
$(B)/keep_float/%.txt: $(ONNX_FILES) $(B)/int8/inputs/manifest.json $(call code,keep_float compare amct atc) $(call set,ONNX)
	$(PYTHON) -m keep_float.search --model $< --inputs $(B)/int8/inputs --precision $* --output $@
$(KEEP_INT8) $(KEEP_FP16):# named here, since make removes files that are named only in pattern rules

precision:                        ## compare precisions: accuracy, changed classes and images/s, as a table
	$(PYTHON) -m make.precision --model $(MODEL) --build $(BUILD) --python $(PYTHON) --metrics $(B)/eval/$(NAME) \
	    --output $(B)/precision/$(NAME).json --batch_size $(BATCH) $(NOFLIP:%=--ending=%) \
	    $(foreach v,GATE MAX_REJECTED,--set '$v=$($v)')
# Show where the result is, also if nothing had to be done. It runs no command, so that make -q works.
onnx torchscript om preprocess infer reference show quantize bench qps bundle compare:
	$(info $@: $^)

.PHONY: once
once:                             # the values of this call are not remembered
	@:

FAMILY_SETTINGS = BACKEND SOC DEVICE INPUT PRECISION KEEP_FLOAT CALIB TUNE BATCHES LOOP AIS_PYTHON PYTHON ATC_FLAGS \
    $(if $(DATASET),DATASET BATCH LIMIT MAX_REJECTED SHARDS)
family:                           ## compare MODELS: accuracy, GMACs and latency, as a table and charts
	$(PYTHON) -m make.family --models $(subst $(comma), ,$(MODELS)) --output $(B)/$(BENCH)/family.json --bench bench/$(BENCH).json \
	    $(if $(DATASET),--metrics eval/$(NAME)/$(TAG).json) $(foreach v,$(FAMILY_SETTINGS),--set '$v=$($v)')

COMPARE   := $(B)/compare/$(NAME)/$(TAG)$(NOFLIP)
TORCH_END := $(if $(POSE),keypoints.json,logits.npy)
TORCH     := $(if $(BY_ONNX),,$(if $(filter $(B)/model.onnx,$(ONNX)),$(MEASURED_FILE:.json=)))# without a checkpoint, the columns of torch are missing
compare:      $(if $(filter .ts,$(EXT)),,$(COMPARE)/operators.json) $(COMPARE)/stages.json ## show where accuracy is lost, by stage and by operator
$(COMPARE)/operators.json: $(ONNX_FILES) $(MODEL_FILE) $(INPUTS)/manifest.json $(CFG) $(call code,compare postprocess) $(call set,DEVICE)
	$(PYTHON) -m compare.operators --cfg $(CFG) --onnx $(ONNX) --model $(MODEL_FILE) --inputs $(INPUTS) --output $@ \
	    --device $(firstword $(subst $(comma), ,$(DEVICE)))
$(COMPARE)/stages.json: $(METRICS) $(RUN) $(ONNX_FILES) $(MODEL_FILE) $(TORCH:%=%.json) $(TORCH:%=%-inputs.json) $(call code,compare postprocess)
	$(PYTHON) -m compare.$(TASK) --cfg $(CFG) --manifest $(INPUTS)/manifest.json --onnx $(ONNX) --model $(MODEL_FILE) --run $(RUN) \
	    --metrics $(METRICS) --output $@ $(if $(POSE),--dataset $(DATASET) $(if $(FLIPS),--flip)) \
	    $(if $(TORCH),--torch_images $(TORCH).$(TORCH_END) --torch_inputs $(TORCH)-inputs.$(TORCH_END))
$(MEASURED_FILE:.json=-inputs.json): $(INPUTS)/manifest.json $(WEIGHTS) $(CFG) $(wildcard $(ANNOTATIONS)) $(call code,train) $(call set,WEIGHTS PREP DATASET FLIP)
	$(call reference,$(INPUTS),$(@:.json=)) --inputs $(if $(POSE),,--logits $(@:.json=.logits.npy))

BASE         ?=#                    report: metrics record of an older run; not remembered
report:                           ## write the records of a run as one page, build/MODEL/report.html
ifneq ($(MODELS),)
	$(PYTHON) -m report.index --build $(BUILD) --models $(subst $(comma), ,$(MODELS)) --output $(BUILD)/report.html
else
	$(PYTHON) -m report.write --cfg $(CFG) --build $(B) --metrics $(METRICS) --inputs $(INPUTS) --run $(RUN) --model $(MODEL_FILE) \
	    --dataset $(DATASET) --output $(B)/report.html $(BASE:%=--base %)
endif

bundle:       $(B)/bundle/$(MODEL)-$(TAG)-$(PACKED).tar ## pack model, inputs and code for infer and eval on a board
$(B)/bundle/%.tar: $(MODEL_FILE) $(OM:%=%.json) $(PACK_INPUTS:%=$(INPUTS)/manifest.json) $(CFG) $(REFERENCE_FILE) $(wildcard $(ANNOTATIONS)) \
        $(call code,make preprocess infer postprocess serve) Makefile $(wildcard $(B)/settings/*.mk) $(STALE) $(BUNDLE_CHANGED)
	$(PYTHON) -m make.bundle --cfg $(CFG) --model $< --output $@ --metrics $(METRICS) $(REFERENCE_FILE:%=--reference %) $(BUNDLE_SETTINGS:%=--set %) \
	    $(if $(PACK_INPUTS),--inputs $(INPUTS) $(FLIP_INPUTS:%=--inputs_flip %) $(ANNOTATIONS:%=--annotations %))

CLUSTER_SETTINGS = $(foreach v,BACKEND SOC INPUT LIMIT MAX_REJECTED FLIP AIS_PYTHON,$v=$($v)) $(if $(TORCH_OR_ONNX),REFERENCE=$(REFERENCE))
cluster:      $(MODEL_FILE) $(OM:%=%.json) $(if $(TORCH_OR_ONNX),$(SOURCE)) ## compute SHARDS parts on a Ray cluster (RAY_ADDRESS), then merge them
	$(subst -m make.shards,-m make.cluster,$(PART)) --shards $(SHARDS) --backend $(BACKEND) $(CLUSTER_SETTINGS:%=--set %)
	$(MERGE)
	@$(PYTHON) -m postprocess.gate $(METRICS) $(ALLOW_UNJUDGED)

VENV  := .venv
PEERS ?= peers# bench-peers: the original programs; not remembered
CLEAN ?=# CLEAN=all also removes build/MODEL/train; not remembered
.PHONY: help setup doctor demo test check clean bench-peers

help:                             ## print this list
ifneq ($(wildcard help.txt),)
	@cat help.txt # in a bundle, written by make/bundle_help.py
else
	@echo "usage: make TARGET... [VARIABLE=value ...]"; echo
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' Makefile make/project.mk | expand -t 16; echo
	@sed -nE 's/^([A-Z_]+) +\?= *([^#]*)# *(.*)/  \1\t\2\t\3/p' Makefile make/project.mk | \
	    sed -E 's/\$$\(or .*,([a-z0-9_]+)\)/\1/; s/\$$\(BUILD\)/build/; s/\$$\(MODEL\)/MODEL/' | expand -t 16,42
endif

lock = python3 -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX$1)'# locks the file that the shell opened as descriptor 9
# Allow one call of the target $1 at a time in this directory: other calls wait until the shell and its child processes have ended
alone = exec 9>$(VENV)/$1_lock; $(call lock,|fcntl.LOCK_NB) 2>/dev/null || { echo "waiting for another make $1 in this directory"; $(call lock); }
setup: $(VENV)/done               ## create .venv for the stages, the demo and the tests
	@$(info done; next: make demo)
# The lock file gets the current time when it is opened, before the wait: if $(VENV)/done is newer, another call finished the setup meanwhile
$(VENV)/done: pyproject.toml constraints.txt hrnet/_resample.c
	@mkdir -p $(VENV)
	@$(call alone,setup); [ ! $@ -nt $(VENV)/setup_lock ] || exit 0; \
	echo "installing about 2 GB of packages into $(VENV), a few minutes; pip prints nothing until it has finished"; \
	python3 -m venv $(VENV); \
	PIP_USER=0 $(VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[torch,openvino,serve,demo,report,dev]"; \
	touch $@

doctor:                           ## check packages, tools, chip, data and disk space before a run
	@$(PYTHON) -m make.doctor --make $(MAKE_VERSION) --backend_asked $(BACKEND_ASKED) --inputs $(INPUTS) \
	    $(foreach option,$(OPTIONS),--set '$(option)=$($(option))') --set CFG=$(CFG_GIVEN)

DEMO      := $(if $(filter file,$(origin MODEL)),demo_digits,$(MODEL))
DEMO_DATA := $(if $(filter demo_pose,$(DEMO)),data/demo_people,data/digits)
DEMO_FILE := $(DEMO_DATA)/$(if $(filter demo_pose,$(DEMO)),annotations/person_keypoints_val2017.json,val_label.txt)
ifneq ($(filter demo,$(MAKECMDGOALS)),)
$(if $(filter demo_digits demo_pose,$(DEMO)),,$(error $(shell python3 -S -m make.options --unknown_demo '$(DEMO)')$(STOPPED)))
endif
demo: $(VENV)/done                ## run all stages on handwritten digits (MODEL=demo_pose: drawn people)
	@$(if $(findstring n,$(firstword -$(MAKEFLAGS))),,$(call alone,demo);) \
	$(MAKE) --no-print-directory $(DEMO_FILE) PYTHON=$(VENV)/bin/python; \
	$(MAKE) --no-print-directory eval MODEL=$(DEMO) WEIGHTS=weights/$(DEMO).pth DATASET=$(DEMO_DATA) \
	    $(if $(filter demo_digits,$(DEMO)),REFERENCE=torch) BACKEND=onnxruntime BUILD=$(BUILD)/demo PYTHON=$(VENV)/bin/python
	@echo "next: make report MODEL=$(DEMO) BUILD=$(BUILD)/demo    writes $(BUILD)/demo/$(DEMO)/report.html"

.PRECIOUS: data/digits/val_label.txt data/demo_people/annotations/person_keypoints_val2017.json# an interrupted make does not remove them: if they exist, they are complete
data/digits/val_label.txt: data/digits.py
	$(PYTHON) -m data.digits --output $(@D)
data/demo_people/annotations/person_keypoints_val2017.json: data/people.py data/figures.py
	$(PYTHON) -m data.people --output data/demo_people --images 200 --scenes plain --size 128 --seed 1

PEER := $(PEERS)/$(if $(POSE),HigherHRNet-Human-Pose-Estimation,imagenet_torch_preprocess.py)
bench-peers: $(if $(POSE),$(ONNX) $(MODEL_FILE)) ## compare speed with the original programs in PEERS
	@test -e $(PEER) || { echo "PEERS=$(PEERS): no $(notdir $(PEER)) in it; docs/benchmarks.md#commands shows where to download the original programs" >&2; exit 2; }
ifdef POSE
	$(PYTHON) -m benchmarks.preprocess_pose_peer --peer $(PEER) --dataset $(DATASET)
	$(PYTHON) -m benchmarks.pose_decode --peer $(PEER)
	$(PYTHON) -m benchmarks.pose_chain --peer $(PEER) --cfg $(CFG) --onnx $(ONNX) --model $(MODEL_FILE) --dataset $(DATASET)
else
	$(PYTHON) -m benchmarks.topn_peer --peer $(PEERS)/imagenet_acc_eval.py
	$(PYTHON) -m benchmarks.preprocess_peer --mode hrnet --peer $(PEER) --dataset $(DATASET)
endif

test: $(VENV)/done                ## run the tests (SLOW=1: also the slow tests)
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 8 --dist loadscope $(if $(SLOW),,-m "not slow")

check: $(VENV)/done               ## run ruff, ruff format, mypy and codespell
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/codespell

clean:                            ## remove products and remembered values of MODEL (CLEAN=all: also build/MODEL/train)
	@$(if $(filter-out all,$(CLEAN)),$(error CLEAN=$(CLEAN): expected all, or an empty value$(STOPPED)))
	@$(if $(wildcard $(B)/*),find $(B) -mindepth 1 -maxdepth 1 $(if $(filter all,$(CLEAN)),,! -name train) -exec rm -rf {} +; \
	echo "removed the products and remembered values of MODEL=$(MODEL) in $(B)$(if $(filter all,$(CLEAN)),,$(if $(wildcard $(B)/train),; kept: $(B)/train))",:)

%.mk: ;
.DEFAULT:
	@python3 -S -m make.options --unknown $@
