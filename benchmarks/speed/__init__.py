"""The workloads of `benchmarks.compare`, and how they are measured and shown."""
