"""A saved audit for other tools: a model card, tables, a run of MLflow. Needs no torch, and none of these tools."""
