# Two commands: `make demo` sets up and answers questions about a brain MRI study, `make test` sets up and runs the tests.

PYTHON ?= python3
BIN := .venv/bin
VOXMOE := $(BIN)/voxmoe
DEMO := .demo
COHORT := $(DEMO)/cohort
# A study of the test split: the model has not seen it.
STUDY := $(COHORT)/BraTS-GLI-00015-100
STUDIES := 48
REAL := $(if $(VOXMOE_REAL_DATA),$(VOXMOE_REAL_DATA)/brats/BraTS-GLI-00000-000)

.PHONY: demo test lint types unit install clean
.DELETE_ON_ERROR:

demo: $(DEMO)/model/manifest.json $(DEMO)/evaluation.txt
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

QUESTIONS := "How large is the Surrounding Non-enhancing FLAIR hyperintensity?" \
	"Where is the Enhancing Tissue located, and how spread out is it?" \
	"What are the volume, region, shape and spread of the Resection Cavity?" \
	"Which chemotherapy would you recommend for the Enhancing Tissue?"

$(COHORT)/cohort.json: | $(BIN)/.installed
	$(VOXMOE) phantom $(COHORT) --n $(STUDIES) --profile gli --seed 0

$(DEMO)/dataset/manifest.json: $(COHORT)/cohort.json
	$(VOXMOE) build $(COHORT) $(DEMO)/dataset

$(DEMO)/model/manifest.json: $(DEMO)/dataset/manifest.json recipes/demo.yaml
	$(VOXMOE) train recipes/demo.yaml --default

$(DEMO)/text-only/manifest.json: $(DEMO)/dataset/manifest.json recipes/demo.yaml
	$(VOXMOE) train recipes/demo.yaml model.vision=null eye=null out=$(DEMO)/text-only

$(DEMO)/evaluation.txt: $(DEMO)/model/manifest.json $(DEMO)/text-only/manifest.json
	$(VOXMOE) evaluate $(DEMO)/model $(DEMO)/dataset --text-only $(DEMO)/text-only \
		--out $(DEMO)/evaluation.json > $@

install: $(BIN)/.installed

$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

test: lint types unit

lint: $(BIN)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(BIN)/.installed-dev
	$(BIN)/mypy

unit: $(BIN)/.installed-dev
	$(BIN)/pytest --numprocesses 2

clean:
	rm -rf .demo .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
