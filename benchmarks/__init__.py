"""What is timed, each beside a reference in the same run.

``python -m benchmarks`` prints medians and ratios as JSON and a table.  Nothing here is a test: machines differ, and a
figure means something only beside the reference that was measured with it.
"""
