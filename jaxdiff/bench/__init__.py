"""Benchmarks: a grid of images, tasks, methods and seeds as a folder that can be stopped and taken up again."""
