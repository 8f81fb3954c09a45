# Two commands: `make demo` sets up and reads brain MRI studies with the model that the package brings along, `make test`
# sets up and runs the tests. `make demo-train` trains a small model of its own instead, in some minutes.

PYTHON ?= python3
BIN := .venv/bin
VOXMOE := $(BIN)/voxmoe
DEMO := .demo
MODEL ?= pocket

.PHONY: demo demo-train test lint types unit install clean
.DELETE_ON_ERROR:

# ------------------------------------------------------------------------------------------------- the shipped model

# Of a seed that no training has drawn from.
SEED := 5000
PHANTOM := $(DEMO)/phantom/BraTS-GLI-00000-100
QUESTIONS := "How large is the Surrounding Non-enhancing FLAIR hyperintensity?" \
	"Where is the Enhancing Tissue located, and how spread out is it?" \
	"What are the volume, location, shape and spread of the Resection Cavity?" \
	"Which chemotherapy would you recommend for the Enhancing Tissue?"

# Its labels have other names than the phantom's: those of the release that its layout tells.
REAL := $(if $(VOXMOE_REAL_DATA),$(VOXMOE_REAL_DATA)/brats/BraTS-GLI-00000-000)
REAL_QUESTIONS := "How large is the Peritumoral Edema?" \
	"Where is the Enhancing Tumor located, and how spread out is it?" \
	"What are the volume, location, shape and spread of the Necrotic and Non-Enhancing Tumor Core?" \
	"Which chemotherapy would you recommend for the Enhancing Tumor?"

# $(call read,STUDY,QUESTIONS,NAME): what a study's own mask holds, and what the model says, shows, draws and reports.
define read
	$(VOXMOE) findings $(1)
	@echo
	$(VOXMOE) ask $(1) $(2) --model $(MODEL) --evidence --picture $(DEMO)/$(3).png
	@echo
	$(VOXMOE) segment $(1) $(DEMO)/$(3)-mask.nii.gz --model $(MODEL)
	@echo
	$(VOXMOE) report $(1) --model $(MODEL) > $(DEMO)/$(3)-report.txt
	@cat $(DEMO)/$(3)-report.txt
endef

demo: $(DEMO)/phantom/cohort.json
	@echo
	@echo "A synthetic study, $(PHANTOM):"
	$(call read,$(PHANTOM),$(QUESTIONS),phantom)
ifneq ($(REAL),)
	@echo
	@echo "A real study, $(notdir $(REAL)):"
	$(call read,$(REAL),$(REAL_QUESTIONS),real)
endif

$(DEMO)/phantom/cohort.json: | $(BIN)/.installed
	$(VOXMOE) phantom $(DEMO)/phantom --n 1 --profile gli --seed $(SEED)

# ------------------------------------------------------------------------------------------------- a model of its own

COHORT := $(DEMO)/cohort
STUDIES := 48
# A study of the test split: the model has not seen it.
STUDY := $(COHORT)/BraTS-GLI-00015-100

demo-train: $(DEMO)/model/manifest.json $(DEMO)/evaluation.txt
	@echo
	@cat $(DEMO)/evaluation.txt
	@echo
	@echo "A synthetic study, $(STUDY):"
	@$(VOXMOE) findings $(STUDY)
	@$(VOXMOE) ask $(STUDY) $(QUESTIONS) --model $(DEMO)/model
ifneq ($(REAL),)
	@echo
	@echo "A real study, $(notdir $(REAL)):"
	@$(VOXMOE) ask $(REAL) $(QUESTIONS) --model $(DEMO)/model
endif

$(COHORT)/cohort.json: | $(BIN)/.installed
	$(VOXMOE) phantom $(COHORT) --n $(STUDIES) --profile gli --seed 0

$(DEMO)/dataset/manifest.json: $(COHORT)/cohort.json
	$(VOXMOE) build $(COHORT) $(DEMO)/dataset

$(DEMO)/model/manifest.json: $(DEMO)/dataset/manifest.json recipes/demo.yaml
	$(VOXMOE) train recipes/demo.yaml

$(DEMO)/text-only/manifest.json: $(DEMO)/dataset/manifest.json recipes/demo.yaml
	$(VOXMOE) train recipes/demo.yaml model.vision=null eye=null out=$(DEMO)/text-only

$(DEMO)/evaluation.txt: $(DEMO)/model/manifest.json $(DEMO)/text-only/manifest.json
	$(VOXMOE) evaluate $(DEMO)/model $(DEMO)/dataset --text-only $(DEMO)/text-only \
		--out $(DEMO)/evaluation.json > $@

# ----------------------------------------------------------------------------------------------------------- set-up

install: $(BIN)/.installed

$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[report]"
	touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

# Apart from all else: wherever DeepSpeed can be imported, transformers imports it.
DEEPSPEED := .venv/deepspeed

$(DEEPSPEED)/.installed: $(BIN)/.installed-dev
	DS_BUILD_OPS=0 $(BIN)/pip install --quiet --constraint constraints.txt --no-deps --no-build-isolation \
		--target $(DEEPSPEED) --upgrade deepspeed einops hjson msgpack ninja py-cpuinfo
	touch $@

test: lint types unit

lint: $(BIN)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(BIN)/.installed-dev
	$(BIN)/mypy

unit: $(BIN)/.installed-dev $(DEEPSPEED)/.installed
	$(BIN)/pytest --numprocesses 2

clean:
	rm -rf .demo .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
