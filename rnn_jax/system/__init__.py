"""What the program asks of the machine and of the process: nothing here knows of recurrence."""
