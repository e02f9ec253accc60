"""A run as other tools take it: merged safetensors, GGUF with a Modelfile, an adapter for PEFT."""
