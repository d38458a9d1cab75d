"""The command line ``muleteer``: everything on one machine, and a server's models and jobs from a shell."""
