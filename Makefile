# The commands of this project; each is a script that can be read and run on its own.
.PHONY: help demo test check bench static
.DEFAULT_GOAL := help

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo:  ## prepare this machine, then build and publish the family in examples/tiny-stacks
	@scripts/demo

test:  ## every test, on real engines too; says what it skipped and why
	@scripts/test

check:  ## format, lints, fuzz targets, docs, dependency policy, shell scripts
	@scripts/check

bench:  ## what it costs to move images, peers beside it: requests, bytes, seconds; and how good schedules are
	@scripts/bench

static:  ## polyarch as one static file for linux/amd64 and linux/arm64, in target/static
	@scripts/static
