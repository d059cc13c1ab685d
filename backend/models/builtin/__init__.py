"""The model that needs no download: it inflates the silhouette of the object in the picture and learned its depth."""
