# Checks the options, remembers the given ones and sets the names of products: make/options.py says how.
override comma := ,
quoted   = '$(subst ','\'',$1)'
DRY      := $(firstword -$(MAKEFLAGS))# -n and -q run nothing
RESOLVED := $(shell python3 -S -m make.options $(if $(or $(findstring n,$(DRY)),$(findstring q,$(DRY))),--dry_run) \
    --goals $(call quoted,$(MAKECMDGOALS)) \
    --overrides $(call quoted,$(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v))) -- \
    $(foreach v,$(OPTIONS) CHUNK,$(call quoted,$v:$(firstword $(origin $v)):$($v))))
$(if $(filter 0,$(.SHELLSTATUS)),,$(error $(RESOLVED)))
$(foreach word,$(RESOLVED),$(eval override $(word)))
override STALE := $(subst $(comma), ,$(STALE))
# What a bundle keeps of this call; all else is given by its files.
CARRIED = $(foreach v,BACKEND SOC DEVICE INPUT LIMIT MAX_REJECTED FLIP SHARDS GATE BATCHES LOOP,$v=$($v)) $(if $(filter config,$(REFERENCE)),REFERENCE=config)
ONNX_FILES = $(ONNX) $(wildcard $(ONNX).data $(ONNX)_data)# with its external data
TORCH_OR_ONNX := $(filter torch onnx,$(REFERENCE))# compare with what make reference measures of SOURCE
BY_ONNX := $(filter onnx,$(REFERENCE))
SOURCE  := $(if $(BY_ONNX),$(ONNX_FILES),$(WEIGHTS))
FLAG_FILES = $(wildcard $(foreach flag,$(ATC_FLAGS),$(lastword $(subst =, ,$(flag)))))# such as that of --keep_dtype
