# Values given to earlier calls of make: files NAME.mk with one line, NAME ?= value, which make/remembered.py wrote. They are read as
# text, so that make runs nothing that they contain; make/options.py rejects a file with anything else in it.
setting   = $(strip $(subst $1 ?=,,$(file <$(BUILD)/$(MODEL)/settings/$1.mk)))
NOT_REMEMBERED := MODEL MODELS BUILD PYTHON GATE MAX_REJECTED SHARD KEEP IMAGES BATCHES BASE HOST PORT# as in make/call.py
SETTINGS := $(filter-out $(NOT_REMEMBERED),$(basename $(notdir $(wildcard $(BUILD)/$(MODEL)/settings/*.mk))))
$(foreach name,$(SETTINGS),$(eval $(subst $$,$$$$,$(name) ?= $(call setting,$(name)))))
# Appended to each error: GNU make ends it with `.  Stop.`, which would look like a part of the value at the end of a hint
define STOPPED

nothing was run
endef
