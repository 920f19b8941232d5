# soak.csv as soak.svg: what must be flat, and what is done meanwhile.
set datafile separator ','
set terminal svg size 900,900 background 'white'
set output 'soak.svg'
set key autotitle columnhead outside
set xlabel 'seconds'
set yrange [0:*]
set multiplot layout 3,1
plot 'soak.csv' using 1:4 with lines, '' using 1:5 with lines
plot 'soak.csv' using 1:3 with lines, '' using 1:6 with lines, '' using 1:7 with lines
plot 'soak.csv' using 1:8 with lines
unset multiplot
