"""From text to scheme: expressions, catalogue, presets, plug-ins, registry."""
