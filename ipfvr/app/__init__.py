"""The restorer's window: a Gradio app that gives and shows what the command line takes and says."""
