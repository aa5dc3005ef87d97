# Check the options, remember the given values and set the names of products, by make/options.py.
override comma := ,
quoted   = '$(subst ','\'',$1)'
DRY      := $(firstword -$(MAKEFLAGS))# the short options of make; with -n and -q it runs no command
# HOST and PORT are read only from make's command line: some shells export HOST, which would open the server to the network
$(foreach v,HOST PORT,$(if $(filter command,$(origin $v)),,$(eval override $v :=)))
RESOLVED := $(shell python3 -S -m make.options $(if $(or $(findstring n,$(DRY)),$(findstring q,$(DRY))),--dry_run) \
    --goals $(call quoted,$(MAKECMDGOALS)) \
    --overrides $(call quoted,$(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v))) -- \
    $(foreach v,$(OPTIONS) CHUNK,$(call quoted,$v:$(firstword $(origin $v)):$($v))))
$(if $(filter 0,$(.SHELLSTATUS)),,$(error $(RESOLVED)$(STOPPED)))
$(foreach word,$(RESOLVED),$(eval override $(word)))
export MODEL# also for CFG=path/mine.yaml: hints of stages contain MODEL
export SETTINGS_BEFORE# the first stage needs it to forget the values of this call if it exits with 2: hrnet/given.py
# Files of remembered values that this call changes; the function `set` of the Makefile makes products depend on such files
override STALE := $(subst $(comma), ,$(STALE))
# Variables whose values are stored in a bundle. PRECISION and other options of the compiler have no effect there, since the model is already
# compiled; AIS_PYTHON and others depend on the board.
BUNDLE_SETTINGS = $(foreach v,BACKEND SOC DEVICE INPUT LIMIT MAX_REJECTED FLIP $(if $(PACK_INPUTS),,SHARDS) GATE,$v=$($v)) $(if $(filter config,$(REFERENCE)),REFERENCE=config)
# REFERENCE=torch or onnx: what make reference measures, and the code that measures it
TORCH_OR_ONNX := $(filter torch onnx,$(REFERENCE))
BY_ONNX := $(filter onnx,$(REFERENCE))
SOURCE_CODE := $(patsubst onnx,atc,$(TORCH_OR_ONNX:torch=train))
ONNX_FILES := $(ONNX) $(wildcard $(ONNX).data $(ONNX)_data)# with its external data
SOURCE := $(if $(BY_ONNX),$(ONNX_FILES),$(WEIGHTS))
FLAG_FILES = $(wildcard $(foreach flag,$(ATC_FLAGS),$(lastword $(subst =, ,$(flag)))))# files named in ATC_FLAGS, such as --op_precision_mode=ops.ini
# The int8 model that make quantize writes, with amct_onnx or its emulator; PRECISION=int8 compiles it
QUANTIZED = $(B)/int8/$(if $(filter ascend,$(BACKEND)),amct_onnx,emulator)$(INT8_VARIANT:%=/%)/model_deploy_model.onnx
INT8 = $(if $(filter int8%,$(PRECISION)),$(QUANTIZED))
# The list of operators that stay in float; KEEP_PRECISION is int8 or fp16, or empty without a list
KEEP_LIST = $(if $(filter auto,$(KEEP_FLOAT)),$(B)/keep_float/$(KEEP_PRECISION).txt,$(KEEP_FLOAT))
KEEP_INT8 = $(if $(filter int8,$(KEEP_PRECISION)),$(KEEP_LIST))
KEEP_FP16 = $(if $(filter fp16,$(KEEP_PRECISION)),$(KEEP_LIST))
ALLOW_UNJUDGED := $(if $(filter none,$(GATE)),--allow_unjudged)
# Named here: if a file is named only in pattern rules, and another call writes it after this call has listed the directory, make removes it
$(OPTIONS:%=$(BUILD)/$(MODEL)/settings/%.mk):
