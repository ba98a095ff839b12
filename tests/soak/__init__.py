"""Long mixed work on a cluster, and what it leaves behind. See run.py."""
