"""What the chaos suite is made of: a system with lines that can break, a plan, callers, and what must hold."""
