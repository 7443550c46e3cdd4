"""The benchmark's jobs: each module runs as its own process until SIGTERM and measures nothing."""
