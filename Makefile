# The pipeline: checkpoint -> ONNX -> compiled model -> input files -> output files -> metrics -> pass or fail.
#
#   make demo                                                 everything on handwritten digits, about a minute
#   make eval MODEL=hrnet_w18 WEIGHTS=my.pth DATASET=/data/imagenet
#   make eval MODEL=higher_hrnet_w32_512 WEIGHTS=my.pth DATASET=/data/coco
#
# Stages exchange data only through files (docs/formats.md). `make -n TARGET` prints the commands and runs none.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help
-include bundle.mk# in an unpacked bundle: its model and inputs
MODEL  ?= $(or $(basename $(notdir $(CFG))),hrnet_w18)# a name in configs/
BUILD  ?= build#             output directory
PYTHON ?= .venv/bin/python#  interpreter that runs the stages
-include $(wildcard $(BUILD)/$(MODEL)/settings/*.mk)# values given to earlier calls

CFG          ?=#                              a YAML file that is not in configs/
WEIGHTS      ?= weights/$(MODEL).pth#         checkpoint: .pth, .pth.tar or .safetensors
DATASET      ?=#                              directory (data/imagenet; pose: data/coco)
ONNX         ?= $(BUILD)/$(MODEL)/model.onnx# an ONNX file to use instead of exporting one
TS           ?= $(BUILD)/$(MODEL)/model.ts#   a TorchScript file to use instead of exporting one
OM           ?=#                              a compiled model to use instead of make om
PREP         ?=#                              inputs to use instead of make preprocess
BATCH        ?=#                              batch size (16; pose: 1)
BATCHES      ?=#                              sizes (bench: 1,4,8,16,32; qps: and 64)
LOOP         ?= 20#                           bench: batches to time of each size
INPUT        ?= float32#                      inputs: float32, or uint8 (normalized in the model)
PRECISION    ?= default#                      in the model: fp16, fp32; default: fp16 on an NPU
SOC          ?= Ascend310P3#                  chip, as npu-smi info prints it
DEVICE       ?= 0#                            device id, or several: 0,1
BACKEND      ?= auto#                         ascend, onnxruntime, openvino, torchscript, torch_aie
TUNE         ?= none#                         none, or aoe: tune on the device
ATC_FLAGS    ?=#                              more flags for atc: --keep_dtype=ops.cfg
AIS_PYTHON   ?= python3#                      interpreter that has ais_bench
GATE         ?= 1#                            largest accuracy drop that passes, in points
REFERENCE    ?=#                              the config's figure; or torch, or a metrics file
LIMIT        ?= 0#                            use only the first N images (0: all)
MAX_REJECTED ?= 0#                            unreadable images to tolerate
FLIP         ?= 1#                            pose: 1: flip test, 0: none
CHUNK        ?= 0#                            pose: outputs on disk at a time, in images (0: all)
BUNDLE       ?= inputs#                       bundle: inputs, or stage: preprocess on the board

OPTIONS := CFG MODEL BUILD PYTHON WEIGHTS DATASET ONNX TS OM PREP BATCH BATCHES LOOP INPUT PRECISION SOC DEVICE BACKEND \
           TUNE ATC_FLAGS AIS_PYTHON GATE REFERENCE LIMIT MAX_REJECTED FLIP CHUNK BUNDLE
STAGES  := train weights onnx torchscript om preprocess infer eval gate reference show bench qps gears bundle
ifneq ($(filter $(STAGES) doctor clean bench-peers $(BUILD)/%,$(MAKECMDGOALS)),)
include make/resolve.mk# checks the values; adds TASK, POSE and the names of products: TAG, NAME, SET, TARGET, EXT, and so on
endif

B       := $(BUILD)/$(MODEL)
MODEL_FILE := $(or $(OM),$(B)/om/bs$(BATCH)-$(INPUT)-$(TARGET)$(EXT))
INPUTS  := $(or $(PREP),$(B)/prep/$(SET))
FLIPPED := $(if $(FLIP_DIR),$(INPUTS)-flip)# a directory of flipped inputs: only ais_bench needs one
OUT     := $(B)/out/$(NAME)
RUN     := $(OUT)/$(TAG)_run.json
METRICS := $(B)/eval/$(NAME)/$(TAG)$(NOFLIP).json
PEOPLE  := $(METRICS:.json=)/keypoints
TORCH   := $(B)/reference/$(NAME)$(NOFLIP).json# accuracy of PyTorch, for REFERENCE=torch
COMPARE := $(if $(filter torch,$(REFERENCE)),$(TORCH),$(REFERENCE))
LABELS  := $(wildcard $(DATASET)/val_label.txt $(DATASET)/val_list.txt $(DATASET)/val $(DATASET)/val/*/. $(ANNOTATIONS))
code     = $(foreach folder,hrnet $1,$(wildcard $(folder)/*.py $(folder)/*.c $(folder)/*/*.py))
set      = $(foreach file,$(patsubst %,$(B)/settings/%.mk,CFG $1),$(or $(wildcard $(file)),$(filter $(file),$(STALE))))
.PHONY: $(STAGES) $(STALE) run-again

weights:                                  ## download the published checkpoint
	$(PYTHON) -m data.weights --cfg $(CFG) --output $(WEIGHTS)
train:                                    ## train a checkpoint, or resume training
	$(PYTHON) -m train.$(TASK) --cfg $(CFG) --dataset $(DATASET) --output $(B)/train
gears:                                    ## choose a few input sizes for a pose DATASET
	$(PYTHON) -m data.gears --cfg $(CFG) --dataset $(DATASET) --output $(B)/gears.yaml
onnx:         $(ONNX)                     ## export to ONNX and check it against PyTorch
torchscript:  $(TS)                       ## export to TorchScript and check it against PyTorch
om:           $(MODEL_FILE)               ## compile for one batch size, with atc or its emulator
preprocess:   $(INPUTS)/manifest.json     ## write one input file for each image
infer:        $(if $(CHUNKED),$(PEOPLE).decode.json,$(RUN)) ## run the model with ais_bench or its emulator
eval:         gate                        ## compute Top-1 to Top-5, or AP, then check the gate
gate:         $(METRICS)                  ## print the verdict; fail if accuracy dropped by more than GATE
	@$(PYTHON) -m postprocess.gate $<
reference:    $(TORCH)                    ## compute PyTorch's accuracy on the same images
show:         $(METRICS:.json=)/show.png  ## draw the first images with their predictions
bench:        $(B)/bench/$(BENCH).json    ## measure throughput and latency for BATCHES or all gears
qps:          $(B)/eval/$(NAME)/$(QPS).json ## tabulate accuracy and throughput for BATCHES
bundle:       $(B)/bundle/$(MODEL)-$(TAG)-$(PACKED).tar ## pack what a board needs for infer and eval

$(WEIGHTS): | $(filter weights,$(MAKECMDGOALS))
	@test -e $@ || $(PYTHON) -m data.weights --cfg $(CFG) --missing $@

$(B)/model.onnx $(B)/model.ts: $(WEIGHTS) $(CFG) $(call code,pth2onnx) $(call set,WEIGHTS)
	$(PYTHON) -m pth2onnx.$(if $(filter %.ts,$@),torchscript,$(TASK)) --cfg $(CFG) --weights $(WEIGHTS) --output $@

COMPILE = --cfg $(CFG) --model $< --output $@ --batch_size $* --input_dtype $(INPUT) --precision $(PRECISION) --backend $(BACKEND) --soc_version $(SOC)
$(B)/om/bs%-$(INPUT)-$(TARGET).ts: $(TS) $(CFG) $(call code,pth2onnx) $(call set,TS SOC)
	$(PYTHON) -m pth2onnx.static $(COMPILE)
$(B)/om/bs%-$(INPUT)-$(TARGET)$(filter-out .ts,$(EXT)): $(ONNX) $(CFG) $(call code,atc) $(call set,ONNX SOC ATC_FLAGS) $(FLAG_FILES)
	$(PYTHON) -m atc.convert $(COMPILE) --tune $(TUNE) $(if $(ATC_FLAGS),--atc_flags='$(ATC_FLAGS)')

$(B)/prep/$(SET)/manifest.json: $(CFG) $(LABELS) $(call code,preprocess) $(call set,DATASET MAX_REJECTED) \
        $(if $(FLIPPED),$(if $(wildcard $(FLIPPED)/manifest.json),,run-again))
	$(PYTHON) -m preprocess.$(TASK) --cfg $(CFG) --dataset $(DATASET) --output $(@D) $(FLIPPED:%=--output_flip %) \
	    --input_dtype $(INPUT) --limit $(LIMIT) --max_rejected $(MAX_REJECTED)

infer = $(PYTHON) -m infer.$1 --model $< --inputs $(INPUTS) --output $(OUT)/$2 --device $(DEVICE) --backend $(BACKEND) \
	    --ais_python $(AIS_PYTHON) $(if $(FLIPS),--output_flip $(OUT)-flip/$2 $(FLIPPED:%=--inputs_flip %))
INFERRED = $(INPUTS)/manifest.json $(call code,infer) $(call set,DEVICE AIS_PYTHON OM PREP FLIP) \
        $(if $(FLIPS),$(if $(wildcard $(OUT)-flip/$(TAG)_run.json),,run-again))
$(OUT)/$(BACKEND)-bs%-$(TARGET)_run.json: $(B)/om/bs%-$(INPUT)-$(TARGET)$(EXT) $(INFERRED)
	$(call infer,run,$(BACKEND)-bs$*-$(TARGET))
$(OUT)/$(BACKEND)-om-%_run.json: $(OM) $(OM:%=%.json) $(INFERRED)
	$(call infer,run,$(BACKEND)-om-$*)

EVALUATE = $(PYTHON) -m postprocess.$(TASK) --cfg $(CFG) --manifest $(INPUTS)/manifest.json --output $@ --gate $(GATE) \
	    $(COMPARE:%=--reference %) $(if $(POSE),--dataset $(DATASET))
JUDGED = $(INPUTS)/manifest.json $(CFG) $(wildcard $(ANNOTATIONS)) $(COMPARE) $(call code,postprocess) $(call set,GATE REFERENCE DATASET)
$(B)/eval/$(NAME)/%$(NOFLIP).json: $(OUT)/%_run.json $(JUDGED)
	$(EVALUATE) --run $< $(if $(FLIPS),--run_flip $(OUT)-flip/$*_run.json)
ifdef CHUNKED
$(METRICS): $(PEOPLE).decode.json $(JUDGED)
	$(EVALUATE) --keypoints $(PEOPLE).json
$(PEOPLE).decode.json: $(MODEL_FILE) $(OM:%=%.json) $(CFG) $(INFERRED) $(call code,postprocess) $(call set,CHUNK)
	$(call infer,chunks,$(TAG)) --chunk $(CHUNK) --parts $(@D)/parts -- $(PYTHON) -m postprocess.decode --cfg $(CFG)
	$(PYTHON) -m postprocess.join --manifest $(INPUTS)/manifest.json --parts $(@D)/parts --output $(PEOPLE).json
endif

$(TORCH): $(INPUTS)/manifest.json $(WEIGHTS) $(CFG) $(wildcard $(ANNOTATIONS)) $(call code,train) $(call set,WEIGHTS PREP DATASET FLIP)
	$(PYTHON) -m train.$(TASK).reference --cfg $(CFG) --weights $(WEIGHTS) --manifest $< --dataset $(DATASET) --output $@ \
	    $(if $(POSE),--flip $(FLIP))

$(METRICS:.json=)/show.png: $(METRICS) $(call code,postprocess)
	$(PYTHON) -m postprocess.show --manifest $(INPUTS)/manifest.json --dataset $(DATASET) --output $@ \
	    $(if $(POSE),--keypoints $(PEOPLE).json,--run $(RUN))

SIZES = $(subst $(comma), ,$(BATCHES))
$(B)/bench/$(BENCH).json: $(SIZES:%=$(B)/om/bs%-$(INPUT)-$(TARGET)$(EXT)) $(call code,infer) $(call set,BATCHES LOOP DEVICE AIS_PYTHON)
	$(PYTHON) -m infer.bench --models $(filter $(B)/om/%,$^) --output $@ --loop $(LOOP) --device $(DEVICE) --backend $(BACKEND) \
	    --soc_version $(SOC) --ais_python $(AIS_PYTHON)

$(B)/eval/$(NAME)/$(QPS).json: $(SIZES:%=$(OUT)/$(BACKEND)-bs%-$(TARGET)_run.json) $(call code,postprocess) \
        $(SIZES:%=$(B)/eval/$(NAME)/$(BACKEND)-bs%-$(TARGET).json) $(call set,BATCHES)
	$(PYTHON) -m postprocess.qps_table --metrics $(filter $(B)/eval/%,$^) --output $@ $(CHIP:%=--chip %)

$(B)/bundle/%.tar: $(MODEL_FILE) $(OM:%=%.json) $(PACK_INPUTS:%=$(INPUTS)/manifest.json) $(CFG) $(COMPARE) $(wildcard $(ANNOTATIONS)) \
        $(call code,make preprocess infer postprocess) Makefile $(wildcard $(B)/settings/*.mk) $(STALE)
	$(PYTHON) -m make.bundle --cfg $(CFG) --model $< --output $@ $(COMPARE:%=--reference %) $(CARRIED:%=--set %) \
	    $(if $(PACK_INPUTS),--inputs $(INPUTS) $(FLIPPED:%=--inputs_flip %) $(ANNOTATIONS:%=--annotations %))

%.mk: ;
include make/project.mk
