"""What people look at: chains as text, DataFrames and graphs."""
