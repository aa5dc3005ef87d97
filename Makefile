# The pipeline: checkpoint -> ONNX -> compiled model -> input files -> output files -> metrics -> pass or fail.
#
#   make demo                                                 everything on handwritten digits, about a minute after setup
#   make eval MODEL=hrnet_w18 WEIGHTS=my.pth DATASET=/data/imagenet
#   make eval MODEL=higher_hrnet_w32_512 WEIGHTS=my.pth DATASET=/data/coco
#
# Stages exchange data only through files (docs/formats.md). `make -n TARGET` prints the commands without running them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL .SUFFIXES:
.DEFAULT_GOAL := help
-include bundle.mk# only in an unpacked bundle: defaults for its model and inputs
MODEL  ?= $(or $(basename $(notdir $(CFG))),$(filter family,$(MAKECMDGOALS)),hrnet_w18)# a name in configs/; not remembered
BUILD  ?= build#             output directory; not remembered
PYTHON ?= .venv/bin/python#  interpreter that runs the stages; not remembered
include make/settings.mk# values given to earlier calls of make

CFG          ?=#                              a YAML file that is not in configs/
WEIGHTS      ?= weights/$(MODEL).pth#         checkpoint: .pth, .pth.tar, .safetensors or .pdparams
DATASET      ?=#                              directory (data/imagenet; pose: data/coco)
ONNX         ?= $(BUILD)/$(MODEL)/model.onnx# an ONNX file to use instead of exporting one
TS           ?= $(BUILD)/$(MODEL)/model.ts#   a TorchScript file to use instead of exporting one
OM           ?=#                              a compiled model to use instead of make om
PREP         ?=#                              directory of inputs to use instead of make preprocess
BATCH        ?=#                              batch size (16; pose: 1)
BATCHES      ?=#                              sizes for bench, qps, family, serve; not remembered
MODELS       ?=#                              report, family: names (family: all HRNet); not remembered
LOOP         ?= 20#                           bench, family: number of batches to time for each size
INPUT        ?= float32#                      inputs: float32, or uint8 (normalised in the model)
PRECISION    ?= default#                      model: fp16, fp32, int8, or default (fp16 on an NPU)
KEEP_FLOAT   ?=#                              auto, or a file of operators that int8 or fp16 skips
CALIB        ?= 64#                           int8 or KEEP_FLOAT=auto: number of calibration images
SOC          ?= Ascend310P3#                  chip name, as make doctor prints it
DEVICE       ?= 0#                            device id, or several: 0,1 (each computes its own parts)
BACKEND      ?= auto#                         ascend, onnxruntime, openvino, torchscript, torch_aie
TUNE         ?= none#                         none, or aoe (tunes the model on the device)
ATC_FLAGS    ?=#                              flags for atc, such as --op_select_implmode=high_precision
AIS_PYTHON   ?= python3#                      interpreter that has ais_bench
GATE         ?= 1#                            allowed drop in percentage points; not remembered
REFERENCE    ?=#                              torch, onnx, a metrics record, or config (docs/guide.md)
LIMIT        ?= 0#                            use only the first N images (0: all)
MAX_REJECTED ?= 0#                            unreadable or unlabelled images to allow; not remembered
FLIP         ?= 1#                            pose: 1 with the flip test, 0 without
SHARDS       ?=#                              number of parts, for less disk space or several devices
SHARD        ?=#                              make part: which part, such as 3/16; not remembered
KEEP         ?=#                              1: keep inputs and outputs of parts; not remembered
BUNDLE       ?= inputs#                       bundle: inputs, or stage (the board preprocesses)
IMAGES       ?=#                              predict: image files and directories; not remembered

OPTIONS := CFG MODEL BUILD PYTHON WEIGHTS DATASET ONNX TS OM PREP BATCH BATCHES LOOP INPUT PRECISION KEEP_FLOAT CALIB SOC DEVICE BACKEND \
           TUNE ATC_FLAGS AIS_PYTHON GATE REFERENCE LIMIT MAX_REJECTED FLIP SHARDS SHARD KEEP BUNDLE MODELS IMAGES BASE HOST PORT
STAGES  := train weights onnx torchscript quantize om preprocess infer eval part merge gate reference show predict serve bench qps gears bundle family compare precision report cluster
ifneq ($(filter $(STAGES) doctor clean bench-peers $(BUILD)/%,$(MAKECMDGOALS)),)
include make/resolve.mk# checks the values; sets TASK, POSE and names of products (make/products.py): TAG, NAME, SET, TARGET, EXT and others
endif

B       := $(BUILD)/$(MODEL)
MODEL_FILE := $(or $(OM),$(B)/om/bs$(BATCH)-$(INPUT)-$(TARGET)$(EXT))
INPUTS  := $(or $(PREP),$(B)/prep/$(SET))
FLIP_INPUTS := $(if $(FLIP_DIR),$(INPUTS)-flip)# directory of flipped inputs, which only ais_bench needs
OUT     := $(B)/out/$(NAME)
RUN     := $(OUT)/$(TAG)_run.json
METRICS := $(B)/eval/$(NAME)/$(TAG)$(NOFLIP).json
PARTS   := $(METRICS:.json=)/parts
MEASURED_FILE := $(B)/reference/$(NAME)$(NOFLIP)$(BY_ONNX:%=-%).json# accuracy of PyTorch, or of the ONNX file
REFERENCE_FILE := $(if $(TORCH_OR_ONNX),$(MEASURED_FILE),$(filter-out config,$(REFERENCE)))# a metrics record
GATE_FLAGS := --gate $(GATE:none=1) $(if $(filter config,$(REFERENCE)),--judge_subset)
code     = $(foreach folder,hrnet $1,$(wildcard $(folder)/*.py $(folder)/*.c $(folder)/*/*.py))
set      = $(foreach file,$(patsubst %,$(B)/settings/%.mk,CFG $1),$(or $(wildcard $(file)),$(filter $(file),$(STALE))))# files of remembered values, as prerequisites
.PHONY: $(STAGES) $(STALE) run-again

weights:                                  ## download the published checkpoint
	$(PYTHON) -m data.weights --cfg $(CFG) --output $(WEIGHTS)
train:                                    ## train a checkpoint, or resume training
	$(PYTHON) -m train.$(TASK) --cfg $(CFG) --dataset $(DATASET) --output $(B)/train
onnx:         $(ONNX)                     ## export to ONNX and check it against PyTorch
torchscript:  $(TS)                       ## export to TorchScript and check it against PyTorch
om:           $(MODEL_FILE)               ## compile for one batch size, with atc or its emulator
preprocess:   $(INPUTS)/manifest.json     ## write one input file for each image
infer:        $(RUN)                      ## run the model with ais_bench or its emulator
eval:         gate                        ## compute Top-1 to Top-5, or AP; then check the gate
part:                                     ## compute one part of a data set, such as SHARD=3/16
	$(PART) --shard $(SHARD)
merge:                                    ## merge SHARDS parts, computed here or elsewhere; then check the gate
	$(MERGE)
	@$(PYTHON) -m postprocess.gate $(METRICS) $(ALLOW_UNJUDGED)
gate:         $(METRICS)                  ## print the verdict; fail unless it is PASS
	@$(PYTHON) -m postprocess.gate $< $(ALLOW_UNJUDGED)
reference:    $(MEASURED_FILE)            ## compute PyTorch's accuracy (REFERENCE=onnx: that of the ONNX file)
show:         $(METRICS:.json=)/show.png  ## draw the first images with their predictions

$(WEIGHTS): | $(filter weights,$(MAKECMDGOALS))
	@test -e $@ || $(PYTHON) -m data.weights --cfg $(CFG) --missing $@

$(B)/model.onnx $(B)/model.ts: $(WEIGHTS) $(CFG) $(call code,pth2onnx) $(call set,WEIGHTS)
	$(PYTHON) -m pth2onnx.$(if $(filter %.ts,$@),torchscript,$(TASK)) --cfg $(CFG) --weights $(WEIGHTS) --output $@
$(B)/$(MODEL).yaml: $(CFG_GIVEN) $(CLASS_NAMES) $(ONNX_FILES) $(call code,atc) $(call set,CFG ONNX)
	$(PYTHON) -m atc.classifier --cfg $(CFG_GIVEN) --model $(ONNX) --output $@

COMPILE = --cfg $(CFG) --model $< --output $@ --batch_size $* --input_dtype $(INPUT) --precision $(firstword $(subst -, ,$(PRECISION))) --backend $(BACKEND) --soc_version $(SOC)
$(B)/om/bs%-$(INPUT)-$(TARGET).ts: $(TS) $(CFG) $(call code,pth2onnx) $(call set,TS SOC)
	$(PYTHON) -m pth2onnx.static $(COMPILE)
$(B)/om/bs%-$(INPUT)-$(TARGET)$(filter-out .ts,$(EXT)): $(ONNX_FILES) $(INT8) $(KEEP_FP16) $(CFG) $(call code,atc) $(call set,ONNX SOC ATC_FLAGS) $(FLAG_FILES)
	$(PYTHON) -m atc.convert $(COMPILE) $(INT8:%=--quantized %) $(KEEP_FP16:%=--keep_float %) --tune $(TUNE) $(if $(ATC_FLAGS),--atc_flags='$(ATC_FLAGS)')

preprocess = $(PYTHON) -m preprocess.$(TASK) --cfg $(CFG) $(or $2,--dataset $(DATASET) --limit $(LIMIT)) --output $1 \
	    $(if $(FLIP_INPUTS),--output_flip $1-flip) --input_dtype $(INPUT) --max_rejected $(MAX_REJECTED)
$(B)/prep/$(SET)/manifest.json: $(CFG) $(DATA_CHANGED) $(call code,preprocess) $(call set,DATASET) \
        $(if $(FLIP_INPUTS),$(if $(wildcard $(FLIP_INPUTS)/manifest.json),,run-again))
	$(call preprocess,$(@D))

infer = $(PYTHON) -m infer.run --model $1 --inputs $2 --output $3/$4 --device $5 --backend $(BACKEND) --ais_python $(AIS_PYTHON) \
	    $(if $(FLIPS),--output_flip $3-flip/$4 $(if $(FLIP_INPUTS),--inputs_flip $2-flip))
RUN_NEEDS = $(INPUTS)/manifest.json $(call code,infer) $(call set,DEVICE AIS_PYTHON OM PREP FLIP) \
        $(if $(FLIPS),$(if $(wildcard $(OUT)-flip/$(TAG)_run.json),,run-again))
$(OUT)/$(BACKEND)-bs%-$(TARGET)_run.json: $(B)/om/bs%-$(INPUT)-$(TARGET)$(EXT) $(RUN_NEEDS)
	$(call infer,$<,$(INPUTS),$(OUT),$(BACKEND)-bs$*-$(TARGET),$(DEVICE))
$(OUT)/$(BACKEND)-om-%_run.json: $(OM) $(OM:%=%.json) $(RUN_NEEDS)
	$(call infer,$<,$(INPUTS),$(OUT),$(BACKEND)-om-$*,$(DEVICE))

evaluate  = $(PYTHON) -m postprocess.$(TASK) --cfg $(CFG) --manifest $1/manifest.json --run $2/$3_run.json \
	    $(if $(FLIPS),--run_flip $2-flip/$3_run.json) $(if $(POSE),--dataset $(DATASET))
reference = $(PYTHON) -m $(if $(BY_ONNX),atc.reference --model $(ONNX),train.$(TASK).reference --weights $(WEIGHTS) --dataset $(DATASET)) \
	    --cfg $(CFG) --manifest $1/manifest.json --output $2.json $(if $(POSE),--flip $(FLIP) --keypoints $2.keypoints.json)
METRICS_NEEDS = $(CFG) $(wildcard $(ANNOTATIONS)) $(call code,postprocess) $(METRICS_CHANGED) $(call set,REFERENCE DATASET)
ifdef SHARDED
PART  = $(PYTHON) -m make.shards --cfg $(CFG) --dataset $(DATASET) --limit $(LIMIT) --model $(MODEL_FILE) --parts $(PARTS) \
	    --device $(DEVICE) $(KEEP:1=--keep) $(if $(FLIPS),--flip) --preprocess '$(call preprocess,{work}/prep) --shard {shard}' \
	    --infer '$(call infer,$(MODEL_FILE),{work}/prep,{work}/out,run,{device})' \
	    --evaluate '$(call evaluate,{work}/prep,{work}/out,run) --part {part}' \
	    $(if $(TORCH_OR_ONNX),--weights $(firstword $(SOURCE)) --reference '$(call reference,{work}/prep,{reference})')
MERGE = $(PYTHON) -m postprocess.merge --cfg $(CFG) --parts $(PARTS) --shards $(SHARDS) --output $(METRICS) $(GATE_FLAGS) \
	    --max_rejected $(MAX_REJECTED) $(if $(TORCH_OR_ONNX),--measured $(MEASURED_FILE),$(REFERENCE_FILE:%=--reference %)) $(if $(POSE),--dataset $(DATASET))
$(METRICS): $(MODEL_FILE) $(OM:%=%.json) $(DATA_CHANGED) $(if $(TORCH_OR_ONNX),$(SOURCE),$(REFERENCE_FILE)) $(METRICS_NEEDS) $(call code,make preprocess infer $(SOURCE_CODE)) \
        $(call set,SHARDS DEVICE AIS_PYTHON OM FLIP WEIGHTS)
	$(PART) --shards $(SHARDS)
	$(MERGE)
else
$(B)/eval/$(NAME)/%$(NOFLIP).json: $(OUT)/%_run.json $(INPUTS)/manifest.json $(METRICS_NEEDS) $(REFERENCE_FILE)
	$(call evaluate,$(INPUTS),$(OUT),$*) --output $@ $(GATE_FLAGS) $(REFERENCE_FILE:%=--reference %)
endif

$(MEASURED_FILE): $(INPUTS)/manifest.json $(SOURCE) $(CFG) $(wildcard $(ANNOTATIONS)) $(call code,$(or $(SOURCE_CODE),train)) $(call set,WEIGHTS ONNX PREP DATASET FLIP)
	$(call reference,$(INPUTS),$(MEASURED_FILE:.json=)) $(if $(POSE)$(BY_ONNX),,--logits $(MEASURED_FILE:.json=.logits.npy))

$(METRICS:.json=)/show.png: $(METRICS) $(CLASS_NAMES) $(call code,postprocess)
	$(PYTHON) -m postprocess.show --cfg $(CFG) --predictions $(@D)/predictions.jsonl --dataset $(DATASET) --output $@

include make/project.mk
