"""Where runs are carried out. An executor takes specs and reports each as it ends."""
