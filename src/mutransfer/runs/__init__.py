"""Many runs: plan them, run them, never lose one."""
