# make setup        create .venv with the pinned dependencies and the command `ssd`
# make demo         draw images of shapes, convert them, train a detector, write its report and draw its predictions;
#                   DATA=<folder> uses your own images instead, for 20 epochs, in COCO's layout, or in that of FORMAT=voc or
#                   FORMAT=yolo; FOLLOW_LINKS=1 reads images to which links lead out of the folder, for datasets that you trust
# make doctor       check whether this machine can train, and say what to do; CONFIG=<recipe> checks the recipe too
# make ascend-check check the graphs of all recipes for Ascend NPUs, without an NPU; takes an hour; CONFIG=<recipe> checks one
# make test         run every test; tests that need PyTorch or mutmut are skipped without them
# make test-fast    run the tests that start no training, no launch and no browser: 3 minutes on 2 cores
# make lint         check style, format and types, and the Dockerfiles
# make docs         write the generated files of the documentation: the pages of recipe keys and the drawing of the package
# make test-torch   install PyTorch, which is 3 GB with CUDA, and test that converted weights give PyTorch's outputs
# make docs-images make the pictures of the documentation again; takes an hour. BCCD=<folder> is the BCCD blood cells in
#                   Pascal VOC's layout: git clone https://github.com/Shenggan/BCCD_Dataset
# make lock         write the lock files in requirements/ after a change of pyproject.toml; UPGRADE=1 takes the newest packages
#                   that pyproject.toml does not pin
# make licenses     write requirements/packages.md, the licenses of the packages, after `make lock`
# make audit        check that every package has wheels for all platforms, search for known vulnerabilities, which needs the
#                   internet, and write a software bill of materials to output/sbom.cdx.json
# make coverage     run every test, and show the line coverage of the package and of tools/, the lowest first; takes 10 minutes
# make peers        compare the COCO metrics of 500 random sets with those of faster-coco-eval
# make mutation     change the code in small ways, and list the changes that no test notices; takes 10 minutes.
#                   MODULES="boxes losses" chooses among boxes, metrics, augmentation, losses and postprocess
# make fuzz         search for inputs that make readers, the service or box functions fail; SECONDS=300 is the time for
#                   each of 12 targets, which then take an hour; TARGET=coco fuzzes one. Linux on x86-64 only
# make soak         three long runs, one after the other: soak-device, a training that is killed up to 20 times, a quarter of
#                   an hour; soak-ranks, a training of two ranks that is killed for an hour, usually two hours in all;
#                   soak-service, the service with 1 % bad requests, a quarter of an hour. MINUTES=<number> for soak-ranks
# make faults       let file operations of every command fail in turn, and check how it ends; takes an hour, or a quarter of it
#                   with OPTIONS='--per_file 1'; needs a C compiler
# All commands can be repeated.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SSD := examples/det/ssd
.SHELLFLAGS := -eu -c

ifdef DATA
NAME := own
EPOCHS := --epoch_size 20
else
NAME := shapes
DATA := data/shapes/coco
endif
FORMAT ?= coco
# One more test process than cores, because tests of launches wait for other processes.
PYTEST_OPTIONS := -n $(shell echo $$(( $$(nproc) + 1 < 4 ? $$(nproc) + 1 : 4 ))) --dist loadfile --no-loadscope-reorder
PYTEST := $(RUN) -m pytest $(PYTEST_OPTIONS)
RECORDS := data/$(NAME)/records

.PHONY: setup demo doctor ascend-check test test-fast test-torch lint docs docs-images lock licenses audit coverage peers soak mutation fuzz soak-device soak-ranks soak-service faults

setup: $(VENV)/ready

# --only-binary: a source distribution would run code of its own while it is built.
INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:
$(VENV)/ready: pyproject.toml requirements/develop.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 12) else f"PYTHON is Python {v[0]}.{v[1]}, but MindSpore has packages only for 3.10 to 3.12. Run make PYTHON=python3.11.")'
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) $(INSTALL) -r requirements/develop.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
ifeq ($(NAME),shapes)
	$(RUN) tools/make_shapes.py $(DATA) --overwrite
endif
	$(RUN) $(SSD)/create_data.py $(FORMAT) --data_path '$(DATA)' --out_path $(RECORDS) --overwrite$(if $(FOLLOW_LINKS), --follow_links)
	$(RUN) $(SSD)/train.py --config $(SSD)/ssd_shapes.yaml --data_dir $(RECORDS) --ckpt_save_dir ckpt/$(NAME) $(EPOCHS)
	$(RUN) $(SSD)/eval.py --config $(SSD)/ssd_shapes.yaml --data_dir $(RECORDS) --ckpt_save_dir ckpt/$(NAME) --output_dir output/$(NAME)
	images='$(DATA)/val2017'; test -d "$$images" || images='$(DATA)'; \
	find -L "$$images" -type f ! -name '.*' -iregex '.*\.\(jpe?g\|png\|bmp\|webp\|tiff?\)' \
	    | sort | sed -n 1,20p | xargs -d '\n' \
	    $(RUN) $(SSD)/predict.py --config $(SSD)/ssd_shapes.yaml --data_dir $(RECORDS) --ckpt_save_dir ckpt/$(NAME) \
	    --output output/$(NAME)/predictions --input
	@echo 'report: open output/$(NAME)/report.html; annotated images: output/$(NAME)/predictions; training: ckpt/$(NAME)/metrics.csv'

ascend-check: setup
	$(RUN) tools/ascend_check.py $(if $(CONFIG),--config '$(CONFIG)')

doctor: setup
	$(RUN) tools/doctor.py $(if $(CONFIG),--config '$(CONFIG)')

test: setup
	$(PYTEST)

test-fast: setup
	$(PYTEST) -m 'not slow'

test-torch: setup
	$(RUN) $(INSTALL) -r requirements/all.txt
	$(RUN) -m pytest tests/tools/test_convert_weights_torch.py

lint: setup
	$(RUN) -m ruff check examples tools tests
	$(RUN) -m ruff format --check examples tools tests
	$(RUN) -m mypy
	$(VENV)/bin/hadolint Dockerfile Dockerfile.ascend

docs: setup
	$(RUN) tools/make_docs.py

BCCD ?= BCCD_Dataset/BCCD
CELLS := --config $(SSD)/ssd_mobilenetv2_plus.yaml --data_dir data/bccd --ckpt_save_dir ckpt/bccd --output_dir output/bccd
docs-images: setup
	test -f output/shapes/report.html || $(MAKE) demo
	$(RUN) $(SSD)/create_data.py voc --data_path '$(BCCD)' --out_path data/bccd --train_split trainval --val_split test --overwrite
	$(RUN) $(SSD)/train.py $(CELLS) --backbone_ckpt_path '' --batch_size 8 --epoch_size 40 --lr 0.02 --log_interval 12 \
	    --eval_while_train true --eval_interval 2
	$(RUN) $(SSD)/eval.py $(CELLS)
	$(RUN) tools/anchors.py --config $(SSD)/ssd_mobilenetv2_plus.yaml --data_dir data/bccd --output output/bccd
	$(RUN) tools/docs_images.py --bccd '$(BCCD)'

# Tools that look at packages have an environment of their own, so that they cannot change that of the project.
AUDIT := .venv-audit
$(AUDIT)/ready: requirements/audit.txt
	$(PYTHON) -m venv --clear $(AUDIT)
	$(AUDIT)/bin/python $(INSTALL) -r requirements/audit.txt
	@touch $@

# Version 3.10 is the lowest; `environments` in pyproject.toml has the other limits. Files hold no addresses of registries.
LOCK := $(AUDIT)/bin/uv pip compile --quiet --universal --python-version 3.10 --only-binary :all: --generate-hashes \
    $(if $(UPGRADE),--upgrade) --custom-compile-command 'make lock'
# A file that stays the same keeps its time, so that `make setup` does not create the environment again.
define write_lock
	cp requirements/$(1).txt requirements/new.txt
	$(LOCK) $(2) -o requirements/new.txt > /dev/null
	cmp -s requirements/new.txt requirements/$(1).txt || cp requirements/new.txt requirements/$(1).txt
	rm requirements/new.txt
endef
lock: $(AUDIT)/ready
	$(call write_lock,all,pyproject.toml --all-extras --group build)
	$(call write_lock,develop,pyproject.toml --extra test --group build -c requirements/all.txt)
	$(call write_lock,serve,pyproject.toml --extra deploy --extra serve --group build -c requirements/all.txt)
	$(call write_lock,audit,--group audit)
	$(call write_lock,search,--group search -c requirements/develop.txt)

licenses: setup $(AUDIT)/ready
	$(RUN) $(INSTALL) -r requirements/search.txt
	$(RUN) tools/license_table.py $(VENV)/lib/python*/site-packages $(AUDIT)/lib/python*/site-packages

# Findings that do not concern this project, with their reasons, are in requirements/vulnerabilities.txt. --strict: a package that
# could not be looked up is a failure.
audit: setup $(AUDIT)/ready
	for python in 3.10 3.11 3.12; do for machine in x86_64 aarch64; do for file in all develop serve audit search; do \
	    $(AUDIT)/bin/uv pip install --quiet --dry-run --target output/none --require-hashes --only-binary :all: \
	        --python-version $$python --python-platform $$machine-manylinux_2_28 -r requirements/$$file.txt; \
	    echo "$$file.txt: every package has a wheel for Python $$python on $$machine"; \
	done; done; done
	rm -rf output/none && mkdir -p output
	$(AUDIT)/bin/cyclonedx-py environment $(RUN) --pyproject pyproject.toml --output-reproducible -o output/sbom.cdx.json
	$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/all.txt -r requirements/audit.txt -r requirements/search.txt \
	    $(shell sed -n 's/^\([A-Z][^ ]*\) .*/--ignore-vuln \1/p' requirements/vulnerabilities.txt)

coverage: setup
	rm -f .coverage .coverage.*
	$(RUN) -m coverage run -m pytest $(PYTEST_OPTIONS)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report --sort cover --fail-under 90

peers: setup
	SSD_RANDOM_SETS=500 $(RUN) -m pytest tests/evaluation/test_peer_coco.py

mutation: setup
	$(RUN) $(INSTALL) -r requirements/search.txt
	$(RUN) tools/mutation.py $(MODULES)

SECONDS ?= 300
fuzz: setup
	$(RUN) $(INSTALL) -r requirements/search.txt
	$(if $(TARGET),,$(RUN) -m pytest -m hypothesis --hypothesis-profile=fuzz)
	$(RUN) tools/fuzz.py $(TARGET) --seconds $(SECONDS)

soak: soak-device soak-ranks soak-service

soak-device: setup
	$(RUN) tools/soak.py device

soak-ranks: setup
	$(RUN) tools/soak.py ranks $(if $(MINUTES),--minutes '$(MINUTES)')

soak-service: setup
	$(RUN) tools/soak.py service

faults: setup
	$(RUN) tools/faults.py $(OPTIONS)
