"""LLVM's text: values, types, scalar operations, loops and branches."""
