"""Events into tables: from Kafka or files, through an adapter, into one commit with its offsets."""
