# The pipeline on one page: checkpoint -> ONNX -> OM -> inputs -> outputs -> metrics -> verdict.
# Stages share nothing but files; they are joined here and nowhere else. docs/formats.md describes every file.
#
#   make demo                                             the whole chain on handwritten digits, nothing needed
#   make demo MODEL=demo_pose                             the same on drawn people
#   make onnx om preprocess infer eval MODEL=hrnet_w18 WEIGHTS=my.pth DATASET=/data/imagenet
#   make onnx om preprocess infer eval MODEL=higher_hrnet_w32_512 WEIGHTS=my.pth DATASET=/data/coco

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

# --- variables: each is one line of `make help` -----------------------------------------------------------------------

-include bundle.mk# where `make bundle` packed this folder: its products, given by OM and PREP

MODEL  ?= hrnet_w18#        a name in configs/
BUILD  ?= build#            where products go
PYTHON ?= .venv/bin/python# the interpreter of the stages; make setup makes the default one

CFG    := configs/$(MODEL).yaml
KIND   := $(if $(findstring pose_higher_hrnet,$(file <$(CFG))),coco,imagenet)# what the config's model is made for

# These are remembered for each MODEL: given once, they hold for later calls, until another value is given.
REMEMBERED := WEIGHTS DATASET ONNX TS OM PREP BATCH BATCHES LOOP INPUT PRECISION SOC DEVICE BACKEND TUNE AIS_PYTHON GATE \
              REFERENCE LIMIT MAX_REJECTED FLIP CHUNK BUNDLE

VENV := .venv
B := $(BUILD)/$(MODEL)
REMEMBER := $(B)/settings
GIVEN := $(foreach v,$(REMEMBERED),$(if $(filter command environment,$(firstword $(origin $v))),$v))
RECALLED := $(filter-out $(GIVEN),$(notdir $(basename $(wildcard $(REMEMBER)/*.mk))))
include $(RECALLED:%=$(REMEMBER)/%.mk)

WEIGHTS      ?= weights/$(MODEL).pth# the checkpoint: .pth, .pth.tar or .safetensors
DATASET      ?= data/$(KIND)#         val/ with val_label.txt, val/<class>/, or val_list.txt; or COCO's folder
ONNX         ?= $(B)/model.onnx#      bring your own ONNX file in place of `make onnx`
TS           ?= $(B)/model.ts#        the same of `make torchscript`, for BACKEND=torchscript and torch_aie
OM           ?=#                      empty: by `make om`; or a compiled model of your own
PREP         ?=#                      empty: by `make preprocess`; or a prep folder of your own
BATCH        ?= 16#                   static batch of the compiled model; of pose 1
BATCHES      ?= 1 4 8 16 32#          the batches that bench compiles and times; of pose 1, and each gear
LOOP         ?= 20#                   how many batches bench takes of each
INPUT        ?= float32#              files of inputs: float32, or uint8 pixels that the model normalises itself
PRECISION    ?= default#              inside the model: fp16, fp32, default (fp16 by atc, fp32 by its twin)
SOC          ?= Ascend310P3#          chip, as npu-smi info prints it behind `Ascend`
DEVICE       ?= 0#                    device id, or several that share the images, such as 0,1
BACKEND      ?= auto#                 auto, ascend, onnxruntime, openvino, torchscript, torch_aie; auto: ascend with atc on PATH or an .om
TUNE         ?= none#                 none, or aoe: tuned by aoe on the device of this machine
AIS_PYTHON   ?= python3#              the python that has ais_bench
GATE         ?= 1#                    allowed drop of Top-1 or AP, points of percent
REFERENCE    ?=#                      empty: the config's figure; torch: torch on the same images; or a metrics file
LIMIT        ?= 0#                    only the first N images in natural order; 0: all
MAX_REJECTED ?= 0#                    how many unreadable images are allowed
FLIP         ?= 1#                    pose: 1, infer the mirrored images too and average; or 0
CHUNK        ?= 0#                    pose: images whose outputs are on disk at a time; 0: all
PEERS        ?= peers#                what bench-peers runs beside: scripts of the model zoo, a checkout of HigherHRNet
BUNDLE       ?= inputs#               what goes to the board: inputs, or stage, which preprocesses a DATASET there

# --- what the variables must be ---------------------------------------------------------------------------------------

PIPELINE := train weights onnx torchscript om preprocess infer eval gate reference show bench bench-peers qps bundle gears
MODELS   := $(patsubst configs/%.yaml,%,$(sort $(wildcard configs/*.yaml)))
DRY      := $(filter n q,$(foreach f,n q,$(findstring $f,$(firstword -$(MAKEFLAGS)))))
COUNT    := [1-9][0-9]*
WHOLE    := 0|[1-9][0-9]*
POINTS   := [0-9]+([.][0-9]+)?
COMMA    := ,
DEVICES  := ($(WHOLE))(,($(WHOLE)))*
CHIP     := Ascend[0-9A-Z]+
FILE     := [A-Za-z0-9_./+=@~-]+
PLACE    := [A-Za-z0-9_./-]+

equal = $(and $(findstring x$1x,x$2x),$(findstring x$2x,x$1x))
must  = $(if $(shell [[ '$(subst ','\'',$($1))' =~ ^($2)$$ ]] || echo no),$(error $1=$($1): expected $3))
there = $(if $(wildcard $($1)),,$(error $1=$($1): no such file or folder))

ifneq ($(filter $(PIPELINE) doctor clean $(BUILD)/%,$(MAKECMDGOALS)),)
$(if $(filter $(MODELS),$(MODEL)),,$(error MODEL=$(MODEL): no such config; known: $(MODELS)))
$(call must,BUILD,$(PLACE),a path that ais_bench takes: letters and digits and _-/. alone)
endif

ifneq ($(filter $(PIPELINE) doctor $(BUILD)/%,$(MAKECMDGOALS)),)
$(foreach v,DATASET $(foreach v,OM PREP,$(if $($v),$v)),$(call must,$v,$(PLACE),$\
    a path that ais_bench takes: letters and digits and _-/. alone))
$(foreach v,WEIGHTS ONNX TS PYTHON AIS_PYTHON PEERS,$(call must,$v,$(FILE),a path of letters and digits and _-/.+=@~ alone))
$(call must,REFERENCE,|$(FILE),nothing or torch or a metrics file)
$(call must,BATCH,$(COUNT),a whole number from 1)
$(call must,BATCHES,$(COUNT)( $(COUNT))*,whole numbers from 1 with a space between them)
$(call must,LOOP,$(COUNT),a whole number from 1)
$(call must,INPUT,float32|uint8,float32 or uint8)
$(call must,PRECISION,default|fp16|fp32,default or fp16 or fp32)
$(foreach v,LIMIT MAX_REJECTED CHUNK,$(call must,$v,$(WHOLE),a whole number))
$(call must,FLIP,0|1,1 or 0)
$(call must,GATE,$(POINTS),points of percent such as 1 or 0.5)
$(call must,DEVICE,$(DEVICES),device ids with a comma between them such as 0 or 0$(COMMA)1)
$(if $(filter 310% 910%,$(SOC)),$(info SOC=$(SOC) is taken as Ascend$(SOC))$(eval override SOC := Ascend$(SOC)))
$(call must,SOC,$(CHIP),Ascend and the chip's name of npu-smi info such as Ascend310P3)
$(call must,BACKEND,auto|ascend|onnxruntime|openvino|torchscript|torch_aie,$\
    auto or ascend or onnxruntime or openvino or torchscript or torch_aie)
$(if $(filter openvinofp16,$(BACKEND)$(PRECISION)),$(error PRECISION=fp16: openvino would compute float32; BACKEND=onnxruntime))
$(call must,TUNE,none|aoe,none or aoe)
ifeq ($(KIND),coco)
ifeq ($(filter BATCH,$(GIVEN) $(RECALLED)),)
override BATCH := 1
endif
ifeq ($(filter BATCHES,$(GIVEN) $(RECALLED)),)
override BATCHES := 1
endif
$(foreach v,BATCH BATCHES,$(call must,$v,1,1: an input sets its own shape))
$(if $(filter qps,$(MAKECMDGOALS)),$(error qps: of classification alone; MODEL=$(MODEL) is of pose))
else
$(if $(filter-out 0,$(CHUNK)),$(error CHUNK=$(CHUNK): of pose alone))
$(if $(filter gears,$(MAKECMDGOALS)),$(error gears: of pose alone; give MODEL=higher_hrnet_w32_512))
endif
$(call must,BUNDLE,inputs|stage,inputs or stage)
PEER := $(if $(filter coco,$(KIND)),HigherHRNet-Human-Pose-Estimation,imagenet_acc_eval.py imagenet_torch_preprocess.py)
$(foreach peer,$(if $(filter bench-peers,$(MAKECMDGOALS)),$(PEER)),$(if $(wildcard $(PEERS)/$(peer)),,$(error $\
    PEERS=$(PEERS): no $(peer) in it; peers are no part of this repository)))
$(if $(DRY)$(shell command -v $(PYTHON)),,$(error no $(PYTHON): run make setup first, or give PYTHON=))
endif

ifneq ($(filter $(PIPELINE) $(BUILD)/%,$(MAKECMDGOALS)),)
$(foreach v,$(filter DATASET $(if $(filter weights,$(MAKECMDGOALS)),,WEIGHTS),$(GIVEN)),$(call there,$v))
$(if $(filter-out $(B)/model.onnx,$(ONNX)),$(call there,ONNX))
$(if $(filter-out $(B)/model.ts,$(TS)),$(call there,TS))
$(if $(OM),$(call there,OM))
$(if $(PREP),$(if $(wildcard $(PREP)/manifest.json),,$(error PREP=$(PREP): no manifest.json in it; give a prep folder)))
$(if $(filter-out torch,$(REFERENCE)),$(call there,REFERENCE))
$(if $(filter bundle,$(MAKECMDGOALS)),$(if $(filter stage,$(BUNDLE)),$(if $(REFERENCE),$(error REFERENCE=$(REFERENCE): $\
    holds for the inputs of this machine; with BUNDLE=stage give REFERENCE= for the figure of the config))))
$(if $(filter val,$(notdir $(DATASET))),$(if $(wildcard $(DATASET)/val),,$(error DATASET=$(DATASET): give the folder above it)))

ATC := $(shell command -v atc)
$(if $(filter ascend,$(BACKEND)),$(if $(ATC)$(OM),,$(error BACKEND=ascend: no atc on PATH; source CANN's set_env.sh)))
WITHOUT := $(if $(filter %.ts,$(OM)),torchscript,onnxruntime)# what auto is without an NPU
ACTING := $(if $(filter-out auto,$(BACKEND)),$(BACKEND),$(if $(if $(OM),$(filter %.om,$(OM)),$(ATC)),ascend,$(WITHOUT)))
BY_TORCH := $(filter torchscript torch_aie,$(ACTING))
ENDING := $(if $(filter ascend,$(ACTING)),.om,$(if $(BY_TORCH),.ts,.onnx))
$(if $(OM),$(if $(filter qps,$(MAKECMDGOALS)),$(error qps: compiles each batch itself; OM=$(OM) is one; give OM=)))
$(if $(BY_TORCH),$(if $(filter bundle,$(MAKECMDGOALS)),$(error bundle: of what needs no torch; BACKEND=$(ACTING) does)))
$(if $(filter-out %$(ENDING),$(OM)),$(error OM=$(OM): expected a $(ENDING) for BACKEND=$(BACKEND)))
ifeq ($(TUNE)$(OM),aoe)
$(if $(filter ascend,$(ACTING)),,$(error TUNE=aoe: expected BACKEND=ascend as aoe tunes on the device))
$(if $(filter default,$(PRECISION)),,$(error TUNE=aoe: expected PRECISION=default as aoe is given no precision))
endif

idle = $(foreach v,$(filter $2,$(if $($1),$(GIVEN))),$(info $v=$($v) has no effect: $1=$($1) is brought))
$(call idle,OM,WEIGHTS ONNX TS BATCH PRECISION SOC TUNE)$(call idle,PREP,LIMIT MAX_REJECTED)
$(if $(OM),$(if $(PREP),$(foreach v,$(filter INPUT,$(GIVEN) $(RECALLED)),$(info $v=$($v) has no effect: $\
    OM=$(OM) and PREP=$(PREP) are brought))))

# A given value is written when this file is read, and only when it differs, so that `make onnx WEIGHTS=x` and then
# `make om` mean x, and a changed value remakes what depends on it. A dry run writes nothing; there a value that differs
# is out of date by being phony.
DIFFERING := $(foreach v,$(GIVEN),$(if $(call equal,$(file <$(REMEMBER)/$v.mk),$v := $($v)),,$v))
ifneq ($(DIFFERING),)
ifeq ($(DRY),)
$(if $(shell umask 027; mkdir -p $(REMEMBER) && test -w $(REMEMBER) || echo no),$(error $(REMEMBER): cannot be written))
$(foreach v,$(DIFFERING),$(if $(shell cd $(REMEMBER) && { echo '$v := $($v)' >.$v.$$$$ && mv .$v.$$$$ $v.mk; } || \
    { rm -f .$v.$$$$; echo no; }),$(error $(REMEMBER)/$v.mk: cannot be written)))
else
.PHONY: $(DIFFERING:%=$(REMEMBER)/%.mk)
endif
endif
$(if $(RECALLED),$(info $(MODEL) as remembered in $(REMEMBER): $(foreach v,$(RECALLED),$v=$($v))))

ifeq ($(BACKEND),auto)
override BACKEND := $(ACTING)
$(info BACKEND=auto is $(BACKEND): $(if $(OM),OM=$(OM),$(if $(ATC),atc is on PATH,no atc on PATH)))
endif
endif

# --- where everything lies --------------------------------------------------------------------------------------------

# Settings that are not in a product's path are prerequisites of it.
settings = $(patsubst %,$(REMEMBER)/%.mk,$(filter $(GIVEN) $(RECALLED),$1))

SET      := $(notdir $(patsubst %/,%,$(DATASET)))-$(INPUT)$(if $(filter-out 0,$(LIMIT)),-first$(LIMIT))
# What default means is for the compiler of a chip to say; without one it is fp32, and asked for by that name.
FOR_CHIP := $(filter ascend torch_aie,$(BACKEND))
INSIDE   := $(if $(FOR_CHIP),$(PRECISION),$(PRECISION:default=fp32))
TUNED    := $(patsubst %,-%,$(filter-out none,$(TUNE)))
TARGET   := $(if $(FOR_CHIP),$(SOC)$(patsubst %,-%,$(filter-out default,$(INSIDE)))$(TUNED),$(INSIDE))
OM_OF     = $(B)/om/bs$1-$(INPUT)-$(TARGET)$(ENDING)
COMPILED := $(call OM_OF,$(BATCH))
CONFIGURED := $(if $(filter uint8 coco,$(INPUT) $(KIND)),$(CFG))# what a model is compiled by: mean and std, gears
OMS      := $(foreach batch,$(BATCHES),$(call OM_OF,$(batch)))
SIZES    := $(if $(filter BATCHES,$(GIVEN) $(RECALLED)),$(BATCHES),1 4 8 16 32 64)# of qps: the seed's
ALL_OMS  := $(sort $(COMPILED) $(OMS) $(foreach size,$(SIZES),$(call OM_OF,$(size))))
PREPARED := $(B)/prep/$(SET)
# What is brought has a TAG and a NAME of its own; a brought model needs its record, which nothing here can make.
TAG      := $(BACKEND)-$(if $(OM),om-$(basename $(notdir $(OM))),bs$(BATCH)-$(TARGET))
NAME     := $(if $(PREP),$(notdir $(patsubst %/,%,$(PREP))),$(SET))
RECORD   := $(OM:%=%.json)
override OM   := $(or $(OM),$(COMPILED))
override PREP := $(patsubst %/,%,$(or $(PREP),$(PREPARED)))
OUT      := $(B)/out/$(NAME)
RUN      := $(OUT)/$(TAG)_run.json
UNFLIPPED := $(if $(filter coco0,$(KIND)$(FLIP)),-noflip)
# The same run and metrics at each of SIZES, for qps.
OTHERS   := $(filter-out $(TAG),$(SIZES:%=$(BACKEND)-bs%-$(TARGET)))
TABLE    := $(B)/eval/$(NAME)/$(BACKEND)-$(TARGET)-qps.json
SWEEP    := $(B)/bench/$(BACKEND)-$(TARGET)$(patsubst %,-%,$(filter-out float32,$(INPUT)))-dev$(subst $(COMMA),-,$(DEVICE)).json
METRICS  := $(B)/eval/$(NAME)/$(TAG)$(UNFLIPPED).json
WITNESS  := $(B)/reference/$(NAME)$(UNFLIPPED).json
REFERENCE_FILE := $(if $(filter torch,$(REFERENCE)),$(WITNESS),$(REFERENCE))

CORE := hrnet/cli.py $(wildcard hrnet/io/*.py)
CONFIG := hrnet/config.py hrnet/schemas.py
NETS := $(CONFIG) $(wildcard hrnet/nets/*.py)
INDEX := $(wildcard $(DATASET)/val_label.txt $(DATASET)/val_list.txt $(DATASET)/val $(DATASET)/val/*/.)
INFER := $(wildcard infer/*.py infer/runtimes/*.py infer/emulator/*.py) hrnet/machine.py
POSE  := hrnet/gears.py $(wildcard hrnet/pose/*.py)

# Of pose: the flip test's other run, and people. The twin mirrors in memory, ais_bench needs a folder of mirrored inputs.
PEOPLE   := $(METRICS:.json=)/keypoints
TRUTH    := $(DATASET)/annotations/person_keypoints_val2017.json
MIRROR   := $(if $(filter coco1,$(KIND)$(FLIP)),$(if $(filter ascend,$(BACKEND)),folder,memory))
MIRRORED := $(if $(filter folder,$(MIRROR)),$(PREP)-flip/manifest.json)
RUNS     := $(RUN) $(if $(MIRROR),$(OUT)-flip/$(TAG)_run.json)
INFERRED := $(if $(filter 0,$(CHUNK)),$(RUNS),$(PEOPLE).decode.json)
LACKING  := $(if $(MIRRORED),$(if $(wildcard $(MIRRORED)),,mirrored-inputs))# a folder that an earlier run did not make
.PHONY: mirrored-inputs

# What a bundle is made of: the stages behind om, and all settings but those that its products stand for.
CODE     := Makefile constraints.txt LICENSE $(wildcard hrnet/*.py hrnet/io/*.py preprocess/*.py infer/*.py infer/runtimes/*.py infer/emulator/*.py \
            postprocess/*.py) $(if $(filter coco,$(KIND)),$(wildcard hrnet/pose/*.py))
CARRIED  := $(if $(filter inputs,$(BUNDLE)),$(PREP)/manifest.json $(if $(filter coco,$(KIND)),$(TRUTH)))
TAKEN    := $(filter-out WEIGHTS DATASET ONNX TS OM PREP REFERENCE BATCH PRECISION TUNE AIS_PYTHON BUNDLE,$(REMEMBERED))
PACKED   := $(B)/bundle/$(MODEL)-$(TAG)-$(if $(CARRIED),$(NAME),stage).tar

# --- the pipeline -----------------------------------------------------------------------------------------------------

.PHONY: $(PIPELINE) help setup doctor demo test check clean

train:                            ## DATASET -> checkpoint in build/MODEL/train; goes on where it was stopped
ifeq ($(KIND),coco)
	$(PYTHON) -m train.pose --dataset $(DATASET) --cfg $(CFG) --output $(B)/train/$(MODEL).pth
else
	$(PYTHON) -m train.classification $(DATASET) --cfg $(CFG) --output $(B)/train
endif

weights:                          ## the published checkpoint of the config -> WEIGHTS, resumed and checked
	$(PYTHON) -m data.weights --cfg $(CFG) --output $(WEIGHTS)

onnx: $(ONNX)                     ## checkpoint -> ONNX, proven equal to torch
torchscript: $(TS)                ## checkpoint -> TorchScript, proven equal to torch
om: $(OM)                         ## ONNX, or TorchScript, -> static batch, by atc or its twin
preprocess: $(PREP)/manifest.json ## images -> one input file each
infer: $(INFERRED)                ## inputs -> outputs, by ais_bench or its twin
eval: gate                        ## outputs -> Top-1 to Top-5, or AP, then the gate
bench: $(SWEEP)                   ## BATCHES, or gears, compiled and timed: device alone, latency, files to files
qps: $(TABLE)                     ## Top-1, Top-5 and images/s at 1 4 8 16 32 64, or BATCHES, as a table
reference: $(WITNESS)             ## torch's own accuracy on the same images, for REFERENCE=torch

bundle: $(PACKED)                 ## all that a board needs for infer and eval, as one archive
show: $(METRICS:.json=/show.png)   ## the first images as a picture, with their labels and Top-5

gate: $(METRICS)                  ## the verdict of the metrics: exit 0 only if it is no `fail`
	@$(PYTHON) -m postprocess.gate $<

$(B)/model.onnx: $(WEIGHTS) $(CFG) $(wildcard pth2onnx/*.py) $(CORE) $(NETS) $(call settings,WEIGHTS)
ifeq ($(KIND),coco)
	$(PYTHON) -m pth2onnx.pose --cfg $(CFG) --weights $(WEIGHTS) --onnx_path $@ --opset 11
else
	$(PYTHON) -m pth2onnx.classification --cfg $(CFG) --input $(WEIGHTS) --output $@ --opset 11
endif

$(B)/model.ts: $(WEIGHTS) $(CFG) $(wildcard pth2onnx/*.py) $(CORE) $(NETS) $(call settings,WEIGHTS)
	$(PYTHON) -m pth2onnx.torchscript --cfg $(CFG) --model_path $(WEIGHTS) --ts_save_path $@

ifneq ($(BY_TORCH),)
$(ALL_OMS): $(call OM_OF,%): $(TS) $(CFG) $(wildcard pth2onnx/*.py) $(CORE) $(NETS) $(call settings,TS SOC)
	$(PYTHON) -m pth2onnx.static --cfg $(CFG) --model $(TS) --output $@ --batch $* --input $(INPUT) \
	    --precision $(INSIDE) --backend $(BACKEND) --soc_version $(SOC)
else
$(ALL_OMS): $(call OM_OF,%): $(ONNX) $(wildcard atc/*.py atc/emulator/*.py) $(CORE) $(CONFIG) $(CONFIGURED) $(call settings,ONNX SOC)
	$(PYTHON) -m atc.convert --model $(ONNX) --output $@ --batch $* --soc_version $(SOC) --tune $(TUNE) \
	    --precision $(INSIDE) --backend $(BACKEND:openvino=onnxruntime) --input $(INPUT) $(CONFIGURED:%=--cfg %)
endif

$(RECORD):
	@echo "$@: nothing tells what $(OM) takes and gives;" \
	    "$(if $(BY_TORCH),let make om write it: OM= TS=$(OM),write it by $(PYTHON) -m atc.adopt --om $(OM))" \
	    "$(if $(filter %.om,$(OM)),--model <its ONNX file> --batch <its batch>)" >&2; exit 2

$(PREPARED)/manifest.json: $(CFG) $(INDEX) $(wildcard preprocess/*.py) $(CORE) $(CONFIG) hrnet/images.py \
                           hrnet/resample.py hrnet/datasets.py hrnet/workers.py \
                           $(call settings,DATASET MAX_REJECTED) $(LACKING)
ifeq ($(KIND),coco)
	$(PYTHON) -m preprocess.pose --cfg $(CFG) --dataset $(DATASET) --output $(@D) $(MIRRORED:%/manifest.json=--output_flip %) \
	    --input $(INPUT) --limit $(LIMIT) --max-rejected $(MAX_REJECTED)
else
	$(PYTHON) -m preprocess.classification $(CFG) $(DATASET) $(@D) --input $(INPUT) --limit $(LIMIT) \
	    --max-rejected $(MAX_REJECTED)
endif

$(RUN): $(OM) $(RECORD)
$(OTHERS:%=$(OUT)/%_run.json): $(OUT)/$(BACKEND)-bs%-$(TARGET)_run.json: $(call OM_OF,%)
$(RUN) $(OTHERS:%=$(OUT)/%_run.json): $(PREP)/manifest.json $(INFER) $(CORE) $(call settings,DEVICE AIS_PYTHON OM PREP)
$(RUN) $(OTHERS:%=$(OUT)/%_run.json): $(OUT)/%_run.json:
	$(PYTHON) -m infer.run --model $(filter %$(ENDING),$^) --input $(PREP) --output $(@D) --output_dirname $* \
	    --device $(DEVICE) --backend $(BACKEND) --ais_python $(AIS_PYTHON)

$(SWEEP): $(OMS) $(INFER) $(CORE) $(call settings,BATCHES LOOP DEVICE AIS_PYTHON)
	$(PYTHON) -m infer.bench --model $(OMS) --batchsize $(BATCHES) --output $@ --loop $(LOOP) \
	    --device $(DEVICE) --backend $(BACKEND) --soc_version $(SOC) --ais_python $(AIS_PYTHON)

ifeq ($(KIND),imagenet)

$(METRICS) $(OTHERS:%=$(B)/eval/$(NAME)/%.json): $(B)/eval/$(NAME)/%.json: $(OUT)/%_run.json $(PREP)/manifest.json \
            $(CFG) $(wildcard postprocess/*.py) $(CORE) $(CONFIG) hrnet/workers.py $(REFERENCE_FILE) \
            $(call settings,GATE REFERENCE)
	$(PYTHON) -m postprocess.classification --cfg $(CFG) --manifest $(PREP)/manifest.json --run $< --output $@ \
	    --gate $(GATE) $(REFERENCE_FILE:%=--reference %)

$(TABLE): $(SIZES:%=$(B)/eval/$(NAME)/$(BACKEND)-bs%-$(TARGET).json) postprocess/qps_table.py \
          hrnet/machine.py $(CORE) $(call settings,BATCHES)
	$(PYTHON) -m postprocess.qps_table --metrics $(filter %-$(TARGET).json,$^) --output $@ $(if $(FOR_CHIP),--chip $(SOC))

$(METRICS:.json=/show.png): $(RUN) $(PREP)/manifest.json $(addprefix postprocess/,show.py sheet.py topn.py) $(CORE)
	$(PYTHON) -m postprocess.show --manifest $(PREP)/manifest.json --run $< --dataset $(DATASET) --output $@

else

$(OUT)-flip/$(TAG)_run.json: $(OM) $(RECORD) $(PREP)/manifest.json $(INFER) $(CORE) $(call settings,DEVICE AIS_PYTHON OM PREP)
	$(PYTHON) -m infer.run --model $(OM) --input $(if $(MIRRORED),$(PREP)-flip,$(PREP) --flip) --output $(@D) \
	    --output_dirname $(TAG) --device $(DEVICE) --backend $(BACKEND) --ais_python $(AIS_PYTHON)

ifeq ($(CHUNK),0)
$(PEOPLE).decode.json: $(RUNS) $(PREP)/manifest.json $(CFG) postprocess/decode.py $(POSE) $(CORE) $(CONFIG)
	$(PYTHON) -m postprocess.decode --cfg $(CFG) --manifest $(PREP)/manifest.json --output $(PEOPLE).json \
	    --dump_dir $(OUT)/$(TAG) $(if $(MIRROR),--dump_dir_flip $(OUT)-flip/$(TAG))
else
$(PEOPLE).decode.json: $(OM) $(RECORD) $(PREP)/manifest.json $(CFG) $(INFER) postprocess/decode.py postprocess/join.py \
                       $(POSE) $(CORE) $(CONFIG) $(call settings,DEVICE AIS_PYTHON OM PREP CHUNK)
	$(PYTHON) -m infer.chunks --model $(OM) --input $(PREP) --output $(OUT) --output_dirname $(TAG) --chunk $(CHUNK) \
	    $(if $(MIRRORED),--input_flip $(PREP)-flip,$(if $(MIRROR),--flip)) --parts $(@D)/parts --device $(DEVICE) \
	    --backend $(BACKEND) --ais_python $(AIS_PYTHON) --code $(filter-out postprocess/join.py,$(filter %.py,$^)) \
	    -- $(PYTHON) -m postprocess.decode --cfg $(CFG)
	$(PYTHON) -m postprocess.join --manifest $(PREP)/manifest.json --parts $(@D)/parts --output $(PEOPLE).json
endif

$(METRICS): $(PEOPLE).decode.json $(PREP)/manifest.json $(CFG) $(TRUTH) $(wildcard postprocess/*.py) $(CORE) $(CONFIG) \
            $(REFERENCE_FILE) $(call settings,GATE REFERENCE DATASET)
	$(PYTHON) -m postprocess.pose --cfg $(CFG) --manifest $(PREP)/manifest.json --annotations $(TRUTH) \
	    --keypoints $(PEOPLE).json --output $@ --gate $(GATE) $(REFERENCE_FILE:%=--reference %)

$(METRICS:.json=/show.png): $(PEOPLE).decode.json $(PREP)/manifest.json postprocess/show_pose.py postprocess/sheet.py $(CORE)
	$(PYTHON) -m postprocess.show_pose --manifest $(PREP)/manifest.json --keypoints $(PEOPLE).json \
	    --dataset $(DATASET) --output $@

endif

bench-peers:                      ## ours beside the peers in PEERS, in turn: of pose, or of classification
ifeq ($(KIND),coco)
bench-peers: $(ONNX) $(OM)
	$(PYTHON) -m benchmarks.preprocess_pose_peer --peer $(PEERS)/$(PEER) --dataset $(DATASET)
	$(PYTHON) -m benchmarks.pose_decode --peer $(PEERS)/$(PEER)
	$(PYTHON) -m benchmarks.pose_chain --peer $(PEERS)/$(PEER) --cfg $(CFG) --onnx $(ONNX) --model $(OM) --dataset $(DATASET)
else
	$(PYTHON) -m benchmarks.topn_peer --peer $(PEERS)/$(word 1,$(PEER))
	$(PYTHON) -m benchmarks.preprocess_peer --mode hrnet --peer $(PEERS)/$(word 2,$(PEER)) --dataset $(DATASET)
endif

gears:                            ## pose: the few input sizes that waste least on DATASET, as a YAML for INPUT.GEARS
	$(PYTHON) -m data.gears --cfg $(CFG) --dataset $(DATASET) --output $(B)/gears.yaml

$(WITNESS): $(PREP)/manifest.json $(WEIGHTS) $(CFG) $(CORE) $(NETS) $(call settings,WEIGHTS PREP)
ifeq ($(KIND),coco)
$(WITNESS): train/evaluate_pose.py $(POSE) $(TRUTH) $(call settings,DATASET)
	$(PYTHON) -m train.evaluate_pose --cfg $(CFG) --weights $(WEIGHTS) --manifest $(PREP)/manifest.json \
	    --dataset $(DATASET) $(if $(MIRROR),--flip) --output $@
else
$(WITNESS): train/evaluate.py
	$(PYTHON) -m train.evaluate --cfg $(CFG) --weights $(WEIGHTS) --manifest $(PREP)/manifest.json --dataset $(DATASET) \
	    --output $@
endif

$(PACKED): $(OM) $(RECORD) $(CARRIED) $(REFERENCE_FILE) $(CFG) $(CODE) $(call settings,OM PREP REFERENCE $(TAKEN))
	$(PYTHON) -m make.bundle --output $@ --cfg $(CFG) --model $(OM) $(if $(CARRIED),--prep $(PREP) \
	    $(MIRRORED:%/manifest.json=--prep_flip %) $(if $(filter coco,$(KIND)),--annotations $(TRUTH))) \
	    $(REFERENCE_FILE:%=--reference %) $(foreach v,$(TAKEN),--set '$v=$($v)') $(CODE)

$(REMEMBER)/%.mk: ;

URL = $(shell sed -n 's/^  URL: *//p' $(CFG))
$(WEIGHTS): | $(filter weights,$(MAKECMDGOALS))
	@test -e $@ || { echo "$@: no such checkpoint;" \
	    "$(if $(URL),make weights MODEL=$(MODEL) loads it from $(URL); else )put it there or give WEIGHTS=<file>" >&2; exit 2; }

# --- the project itself -----------------------------------------------------------------------------------------------

help:                             ## this list
	@echo "usage: make <targets> [VARIABLE=value]"; echo
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' Makefile | expand -t 16; echo
	@sed -nE 's/^([A-Z_]+) +\?= *([^#]*)# *(.*)/  \1\t\2\t\3/p' Makefile | expand -t 16,40

setup: $(VENV)/done               ## a .venv with all that stages, demo and tests need
$(VENV)/done: pyproject.toml constraints.txt hrnet/_resample.c
	python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[torch,openvino,demo,dev]"
	@touch $@

doctor:                           ## what is installed, which tools, chip and backend are used, what is missing
	@$(PYTHON) -m make.doctor --cfg $(CFG) --weights $(WEIGHTS) --dataset $(DATASET) \
	    --onnx $(if $(filter torchscript torch_aie,$(BACKEND)),$(TS),$(ONNX)) \
	    --input $(INPUT) --limit $(LIMIT) $(if $(filter coco,$(KIND)),--passes $(words $(RUNS)) --chunk $(CHUNK)) \
	    $(if $(MIRRORED),--mirrored) --reference '$(REFERENCE)' --backend $(BACKEND) --ais_python $(AIS_PYTHON) --soc $(SOC) --build $(BUILD) \
	    --prep $(PREP) $(RECORD:%.json=--om %) $(if $(filter-out $(PREPARED),$(PREP)),--prepared) --settings $(REMEMBER) \
	    --make $(MAKE_VERSION)

DEMO   := $(if $(filter file,$(origin MODEL)),demo_digits,$(MODEL))
DIGITS := data/digits/val_label.txt
DRAWN  := data/demo_people/annotations/person_keypoints_val2017.json
ifneq ($(filter demo,$(MAKECMDGOALS)),)
$(if $(filter demo_digits demo_pose,$(DEMO)),,$(error demo of MODEL=$(MODEL): there are demo_digits and demo_pose))
endif

demo: $(VENV)/done                ## the whole chain on handwritten digits, about a minute; of demo_pose on drawn people
	@$(MAKE) --no-print-directory $(if $(filter demo_pose,$(DEMO)),$(DRAWN),$(DIGITS)) PYTHON=$(VENV)/bin/python
	@$(MAKE) --no-print-directory onnx om preprocess infer eval MODEL=$(DEMO) WEIGHTS=weights/$(DEMO).pth \
	    $(if $(filter demo_pose,$(DEMO)),DATASET=data/demo_people,DATASET=data/digits REFERENCE=torch) \
	    BACKEND=onnxruntime BUILD=$(BUILD)/demo PYTHON=$(VENV)/bin/python

$(DIGITS): data/digits.py
	$(PYTHON) -m data.digits --output $(@D)

$(DRAWN): data/people.py data/figures.py
	$(PYTHON) -m data.people --output data/demo_people --images 200 --scenes plain --size 128 --seed 1

test: $(VENV)/done                ## the tests; SLOW=1 adds full-size networks and real photographs
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 8 $(if $(SLOW),,-m "not slow")

check: $(VENV)/done               ## ruff, format, mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:                            ## remove what was built for MODEL, and its remembered settings
	rm -rf $(B)
