"""Rows decoded side by side: the decoder of fixed slots, its attention, what compiling it pays."""
