# The commands of everyday work:  make test . On Windows type the commands themselves, each is one line.
PYTHON ?= python

.PHONY: help test quick lint slow torture docs site coverage reading

help:           # this list
	@grep -E '^[a-z]+:.*# ' Makefile

test:           # what has to be green before a change goes in: some minutes on two cores
	$(PYTHON) -m pytest

quick:          # what breaks first: the spine, every network built and stepped once, the rules of the house
	$(PYTHON) -m pytest tests/spine tests/nets/test_contract.py tests/project/test_floors.py tests/project/test_reading.py

lint:           # style, spelling, and the types at the boundary
	ruff check .
	codespell
	mypy

slow:           # trainings of minutes: the networks learn
	$(PYTHON) -m pytest -m slow

torture:        # kills, full disks, several processes
	$(PYTHON) -m pytest -m torture

docs:           # twins in both languages, links, commands, the page on attention
	$(PYTHON) -m pytest -n 0 tests/project/test_readme.py tests/project/test_attention_docs.py tests/project/test_habits.py

site:           # the docs as a web site in both languages, in site/: pip install -r docs/requirements.txt
	$(PYTHON) docs/site/make.py

coverage:       # the share of lines that the tests pass
	$(PYTHON) -m pytest --cov

reading:        # how readable is it: bodies without paragraphs, wide lines ...
	$(PYTHON) tools/reading.py
