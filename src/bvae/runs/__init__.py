"""What a run leaves in its folder, read by reports and by the app."""
