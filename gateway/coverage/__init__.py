"""What cases are worth: which rules, refusals, reasons and outcomes of a policy somebody has written a wish for.

A case that passes says that nothing broke where somebody looked. This package says where nobody did.
"""
