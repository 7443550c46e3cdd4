"""`freshet-export evaluate`: models put beside the baseline, bundles beside each other."""
