"""Rivals by the weights their authors published: each from a local folder, loaded strictly; nothing is downloaded."""
