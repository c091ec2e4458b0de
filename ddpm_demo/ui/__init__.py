"""The app: its page, its tabs, and the components that they share. It computes nothing itself."""
