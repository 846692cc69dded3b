"""From raw videos and pictures of people to the layout that trainings and experiments read."""
