"""The network of a detector in another runtime than torch: conversion, files, the check that it finds the same."""

from mitosight.runtime.choice import NAMES, TOLERANCE, load, open_runtime
from mitosight.runtime.files import export, is_exported, read_header

__all__ = ["NAMES", "TOLERANCE", "export", "is_exported", "load", "open_runtime", "read_header"]
