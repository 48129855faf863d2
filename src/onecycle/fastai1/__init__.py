"""An annexe: what only notebooks written for fastai v1 need, under v1's names; nothing in the product imports it."""
