"""What people see: the reporters read a judgement and a history, and decide nothing."""
