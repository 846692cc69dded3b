"""Packaging lives in setup.cfg; this file lets older pip install the project as editable."""

from setuptools import setup

setup()
