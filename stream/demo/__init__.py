"""The demo: a committed sample of a real shop, its model bundle, and the worker it runs on."""
