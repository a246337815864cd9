"""Pieces that two or more methods share."""
