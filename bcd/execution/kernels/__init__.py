"""Kernels and what belongs to the compiler, below the options of `bcd.execution`, which import them.

    loss        the cross-entropy of a head, chunk by chunk
    gated       products of gated MLPs with the activation inside
    float8      products of frozen weights in 8 bits
    passes      what the compiler's graphs compute otherwise
    operators   operators of our own, quack's kernels, and which GPUs and dtypes they take
    addresses   memory that a GPU can read, as a tensor
    versions    what the versions of torch differ in

Nothing here imports an option.
"""
