"""What `freshet doctor` looks at, a file a subject."""
