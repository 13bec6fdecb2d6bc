"""Tianmai."""
