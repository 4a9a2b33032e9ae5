module github.com/apogeemq/apogee

go 1.26
