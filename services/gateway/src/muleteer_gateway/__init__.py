"""The gateway: HTTP in, jobs out, answers back."""
