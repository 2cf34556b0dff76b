"""Azure Resource Manager as far as its clients touch it: pools, groups and what there is to know about a subscription."""
