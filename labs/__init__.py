"""Five notebooks for a course. ``./reproduce.sh lab 1`` runs the first; the teacher's page is README.md."""
