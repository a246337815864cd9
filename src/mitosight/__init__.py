"""mitosight: mitotic figures in H&E images, on scanners the detector never saw."""

__version__ = "0.1.0"
