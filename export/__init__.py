"""Training and export of model bundles for Freshet."""
