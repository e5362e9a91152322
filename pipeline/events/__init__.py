"""Events: the one declaration of their columns, their wire forms, identity and redaction."""
